-- scan_tasks: reads the next part of a container with its tasks, behind a place that is known by what was read before
-- (transitions.md#scan-tasks). Reads only.
--
-- KEYS  1 container, 2 lease
-- ARGV  1 queue prefix, 2 list (read from the tail) or zset, 3 most ids, 4 most bytes of messages, results and
--       progress (the first excepted),
--       then, except in the first call, in a sorted set: 5 score and 6 id of the entry to go on behind, 7 score and
--       8 id of the last entry; in a list: 5 id of the last entry, 6 most entries, 7 number of entries that were
--       between the place and the tail, 8 ... the tasks that were read before the place, the first read first: id,
--       pending_since or token of the take ('' if there is none)
-- returns {1 if nothing is left to read else 0, score of the last entry ('' in a list), id of the last entry, in a list
--       number of entries between the first id and the tail (0 in a sorted set), in a list most entries (0 in a sorted
--       set), then nine values for each id: include/listed.lua}
--       or {WRONGTYPE, key}: refused
--
-- The last entry, and in a list the greatest number of entries, are noted by the first call, so that the calls end however
-- many tasks are added meanwhile.

local container, is_list, most = KEYS[1], ARGV[2] == 'list', tonumber(ARGV[3])
local bad = misfit({ container, ARGV[2] })
if bad then
  return wrong_type(bad)
end

-- The number of entries between the tail and the first one that was not read. The tasks that are known stand in the list
-- in the order in which they were read, so the place is behind the last of them that is still there. One that left and came
-- back stands elsewhere, and does not count.
local function place_in_list()
  local guess, newest = tonumber(ARGV[7]), #ARGV - 1
  if newest >= 8 and guess > 0 and call('LINDEX', container, -guess) == ARGV[newest] then
    local task = redis.pcall('HMGET', ARGV[1] .. 't:' .. ARGV[newest], 'pending_since', 'x:take')
    if not task.err and (task[1] or task[2] or '') == ARGV[#ARGV] then
      -- Nothing has moved.
      return guess
    end
  end
  local rank = {}
  for i = 8, #ARGV, 2 do
    rank[ARGV[i]] = i
  end
  local function is_same(id)
    local task = redis.pcall('HMGET', ARGV[1] .. 't:' .. id, 'pending_since', 'x:take')
    return (not task.err and (task[1] or task[2]) or '') == ARGV[rank[id] + 1]
  end
  -- Behind the last known task in a part of the list; and whether a later one cannot be further on. The caller knows the
  -- last 400 tasks, so as many entries after it suffice.
  local function look(first, last)
    first, last = math.max(first, 0), math.max(last, 0)
    local ids = call('LRANGE', container, -(last + 1), -(first + 1))
    local found = {}
    for i = 1, #ids do
      if rank[ids[i]] then
        found[#found + 1] = { rank[ids[i]], first + #ids - i + 1, ids[i] }
      end
    end
    table.sort(found, function(a, b)
      return a[1] > b[1]
    end)
    for _, one in ipairs(found) do
      if is_same(one[3]) then
        return one[2], one[1] == #ARGV - 1 or #ids < last - first + 1 or one[2] + 400 <= last
      end
    end
    return nil, false
  end
  local place, is_sure = look(guess - 1000, guess + 500)
  if not place then
    place, is_sure = look(guess - 5000, guess - 1001)
  end
  if place and not is_sure then
    place = look(place - 1, place + 500) or place
  end
  if place then
    return place
  end
  -- Further away. Each search walks through the list.
  for _, i in ipairs({ #ARGV - 1, #ARGV - 129 }) do
    local found = i >= 8 and call('LPOS', container, ARGV[i], 'RANK', -1, 'MAXLEN', guess + 1000)
    if found then
      found = call('LLEN', container) - 1 - found
      place = look(found, found + 500)
      if place then
        return place
      end
    end
  end
  return 0
end

local last_score, last, position, left, entries, ended = '', false, 0, 0, {}, false
if is_list then
  if ARGV[5] then
    last, left, position = ARGV[5], tonumber(ARGV[6]), place_in_list()
  else
    last, left = call('LINDEX', container, 0), 2 * call('LLEN', container)
  end
  most = math.min(most, left)
  local ids = most > 0 and call('LRANGE', container, -(position + most), -(position + 1)) or {}
  ended = #ids < most or most == left
  for i = #ids, 1, -1 do
    entries[#entries + 1], entries[#entries + 2] = ids[i], ''
    if ids[i] == last then
      ended = true
      break
    end
  end
else
  local first = 0
  if ARGV[5] then
    last_score, last, first = ARGV[7], ARGV[8], rank_behind(container, ARGV[5], ARGV[6])
  else
    local entry = call('ZRANGE', container, -1, -1, 'WITHSCORES')
    last_score, last = entry[2] or '', entry[1]
  end
  local found = last and call('ZRANGE', container, first, first + most - 1, 'WITHSCORES') or {}
  ended = #found < 2 * most
  for i = 1, #found, 2 do
    if precedes(last_score, last, found[i + 1], found[i]) then
      ended = true
      break
    end
    entries[i], entries[i + 1] = found[i], found[i + 1]
    ended = ended or found[i] == last
  end
end
local reply = { 0, last_score, last or '', position, left }
local read = read_tasks(reply, ARGV[1], KEYS[2], entries, tonumber(ARGV[4]), true)
if ended and 2 * read == #entries then
  reply[1] = 1
end
return reply
