-- act_on_some: runs, archives or deletes some of the tasks of a container, the next ones in each call
-- (transitions.md#act-on-all-tasks).
--
-- KEYS  1 container, 2 pending, 3 archived, 4 groups, 5 aggregation_sets
-- ARGV  1 queue prefix, 2 run, archive or delete, 3 state of the tasks, 4 group ('' if there is none),
--       5 now in s, 6 now in ns, 7 archive cut-off in s, 8 archive limit, 9 most tasks trimmed, 10 most ids,
--       then, except in the first call: 11 score and 12 id of the entry to go on behind, 13 score and 14 id of
--       the last entry, 15 most entries; a list has no scores ('')
-- returns {number of tasks acted on, number of ids that were only removed, put aside: id, kind ...,
--       then, if it goes on, what ARGV 11 to 15 are then}
--       kinds: h not a hash, m no message
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- All ids that the call looks at leave the container. Entries of a sorted set that are before the place to go on
-- at have come since, and are not looked at. The last entry and the greatest number of entries are noted by the
-- first call, so that the calls end however many tasks are added meanwhile. The first write frees memory.

local STATES = {
  active = true, pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}

local prefix, act, state, group, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local container, pending, archived, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local most = tonumber(ARGV[10])
local is_list = state == 'pending'
local bad = misfit({
  container, is_list and 'list' or 'zset', act == 'run' and pending or container,
  (act == 'run' or is_list) and 'list' or 'zset',
}) or act == 'archive' and misfit({ archived, 'zset' }) or group ~= '' and misfit({ groups, 'set' })
if bad then
  return wrong_type(bad)
elseif group ~= '' and type(try('ZSCORE', KEYS[5], container)) == 'string' then
  -- An aggregation set, which no group is called like.
  return { 0, 0, {} }
end

-- Whether an entry comes before another one in a sorted set. Lua compares texts by the locale.
local function precedes(score, id, other_score, other)
  local a, b = tonumber(score), tonumber(other_score)
  if a ~= b then
    return a < b
  end
  for i = 1, math.min(#id, #other) do
    local x, y = string.byte(id, i), string.byte(other, i)
    if x ~= y then
      return x < y
    end
  end
  return #id < #other
end

-- The rank of the first entry behind another one, which need not be there.
local function rank_behind(score, id)
  local low, high = 0, call('ZCARD', container)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = call('ZRANGE', container, middle, middle, 'WITHSCORES')
    if precedes(score, id, entry[2], entry[1]) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Read.
local last_score, last, left, first_rank = ARGV[13], ARGV[14], tonumber(ARGV[15]), 0
if ARGV[11] then
  first_rank = not is_list and rank_behind(ARGV[11], ARGV[12]) or 0
elseif is_list then
  last_score, last, left = '', call('LINDEX', container, 0), call('LLEN', container)
else
  local entry = call('ZRANGE', container, -1, -1, 'WITHSCORES')
  last_score, last, left = entry[2], entry[1], 2 * call('ZCARD', container)
end
local room = math.min(most, left)
if not last or room <= 0 then
  return { 0, 0, {} }
end
local ids, scores, ended = {}, {}, false
if is_list then
  local tail = call('LRANGE', container, -room, -1)
  ended = #tail < room
  for i = #tail, 1, -1 do
    ids[#ids + 1], scores[#scores + 1] = tail[i], ''
    if tail[i] == last then
      ended = true
      break
    end
  end
else
  local entries = call('ZRANGE', container, first_rank, first_rank + room - 1, 'WITHSCORES')
  ended = #entries < 2 * room
  for i = 1, #entries, 2 do
    if precedes(last_score, last, entries[i + 1], entries[i]) then
      ended = true
      break
    end
    ids[#ids + 1], scores[#scores + 1] = entries[i], entries[i + 1]
  end
end
left = left - #ids
ended = ended or left <= 0
local ready, keys, locks, aside, dropped = {}, {}, {}, {}, 0
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local task = try('HMGET', key, 'state', 'unique_key')
  local damaged = task.err and 'h' or call('HEXISTS', key, 'msg') == 0 and damage(key)
  if damaged == 'n' or not task.err and task[1] ~= state and STATES[task[1]] then
    dropped = dropped + 1
  elseif damaged and act ~= 'delete' then
    aside[#aside + 1] = id
    aside[#aside + 1] = damaged
  else
    ready[#ready + 1], keys[#keys + 1] = id, key
    locks[#locks + 1] = not task.err and task[2]
  end
end

-- Write.
if #ids > 0 and is_list then
  call('LTRIM', container, 0, -#ids - 1)
elseif #ids > 0 then
  call_each('ZREM', container, ids)
end
if group ~= '' and call('EXISTS', container) == 0 then
  call('SREM', groups, group)
end
for i = 1, #aside, 2 do
  put_aside(prefix, aside[i], now)
end
if act == 'delete' then
  unlink_all(keys)
  for i, id in ipairs(ready) do
    free_lock(prefix, locks[i], id)
  end
elseif act == 'run' then
  for _, key in ipairs(keys) do
    call('HSET', key, 'state', 'pending', 'pending_since', ARGV[6])
    call('HDEL', key, 'group', 'x:take', 'x:adopt', 'x:cancel', 'x:at')
  end
  call_each('LPUSH', pending, ready)
elseif #ready > 0 then
  local entries = {}
  for i, key in ipairs(keys) do
    call('HSET', key, 'state', 'archived')
    call('HDEL', key, 'pending_since', 'group', 'x:take', 'x:adopt', 'x:cancel', 'x:at', 'x:unstarted')
    entries[2 * i - 1], entries[2 * i] = now, ready[i]
  end
  call_each('ZADD', archived, entries)
  trim_archive(prefix, archived, ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]))
end
local reply = { #ready, dropped, aside }
if not ended then
  reply[4], reply[5], reply[6], reply[7], reply[8] = scores[#ids], ids[#ids], last_score, last, left
end
return reply
