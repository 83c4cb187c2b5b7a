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

local prefix, act, state, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local container, pending, archived, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local most = tonumber(ARGV[10])
local is_list = state == 'pending'
local bad = acts_misfit(container, is_list, act, pending, archived, group, groups)
if bad then
  return wrong_type(bad)
elseif group ~= '' and type(try('ZSCORE', KEYS[5], container)) == 'string' then
  -- An aggregation set, which no group is called like.
  return { 0, 0, {} }
end

-- Read.
local last_score, last, left, first_rank = ARGV[13], ARGV[14], tonumber(ARGV[15]), 0
if ARGV[11] then
  first_rank = not is_list and rank_behind(container, ARGV[11], ARGV[12]) or 0
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
local found = look_at(prefix, state, act, ids)

-- Write.
if #ids > 0 and is_list then
  call('LTRIM', container, 0, -#ids - 1)
elseif #ids > 0 then
  call_each('ZREM', container, ids)
end
if group ~= '' and call('EXISTS', container) == 0 then
  call('SREM', groups, group)
end
carry_out(found, act, prefix, pending, archived)
local reply = { #found.ready, found.dropped, found.aside }
if not ended then
  reply[4], reply[5], reply[6], reply[7], reply[8] = scores[#ids], ids[#ids], last_score, last, left
end
return reply
