-- reclaim_sets: hands aggregation sets whose time is over back to their groups, a part in each call
-- (transitions.md#reclaim-sets).
--
-- KEYS  1 aggregation_sets, 2 groups, 3 x:finished
-- ARGV  1 queue prefix, 2 now in s, 3 most sets, 4 most tasks that join others, 5 a new id for a set,
--       6 when a set is looked at again whose group holds another type in s
-- returns {number of sets that were handed back, 1 if there are more else 0,
--       keys of groups that hold another type, keys of sets whose tasks are still to be deleted: up to ten}
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The group is added to the index (differences.md#groups-handed-back). If the group is empty, the set becomes
-- the group. A large set goes back in parts. Its owner may be late and must not finish it meanwhile, so the
-- remaining tasks become another set under a new id, whose time is over too.

local sets, groups = KEYS[1], KEYS[2]
local bad = misfit({ sets, 'zset', groups, 'set' })
if bad then
  return wrong_type(bad)
end
local stale = redis.call('ZRANGEBYSCORE', sets, '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local start, back, refused, room = ARGV[1] .. 'g:', 0, {}, tonumber(ARGV[4])

-- Moves the first `n` tasks of a set to its group.
local function move(set, key, n)
  local members, entries = redis.call('ZRANGE', set, 0, n - 1, 'WITHSCORES'), {}
  for i = 1, #members, 2 do
    entries[i], entries[i + 1] = members[i + 1], members[i]
  end
  redis.call('ZREMRANGEBYRANK', set, 0, n - 1)
  for i = 1, #entries, 1000 do
    redis.call('ZADD', key, 'LT', unpack(entries, i, math.min(i + 999, #entries)))
  end
  room = room - n
end

for i = 1, #stale, 2 do
  local set = stale[i]
  -- The part between `g:` and the last colon is the group's name.
  local group = string.sub(set, 1, #start) == start and string.match(string.sub(set, #start + 1), '^(.*):[^:]*$')
  local key = group and start .. group
  if not group or redis.call('TYPE', set).ok ~= 'zset' then
    redis.call('ZREM', sets, set)
    back = back + 1
  elseif not holds(key, 'zset') then
    redis.call('ZREM', sets, set)
    redis.call('ZADD', sets, ARGV[6], set)
    refused[#refused + 1] = key
  elseif redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', sets, set)
    redis.call('RENAME', set, key)
    redis.call('SADD', groups, group)
    back = back + 1
  elseif redis.call('ZCARD', set) <= room then
    redis.call('ZREM', sets, set)
    move(set, key, redis.call('ZCARD', set))
    redis.call('SADD', groups, group)
    back = back + 1
  elseif room > 0 then
    local rest = key .. ':' .. ARGV[5]
    redis.call('ZREM', sets, set)
    redis.call('RENAME', set, rest)
    redis.call('ZADD', sets, stale[i + 1], rest)
    move(rest, key, room)
    redis.call('SADD', groups, group)
  end
end
local finished = redis.pcall('ZRANGE', KEYS[3], 0, 9)
return {
  back, redis.call('ZCOUNT', sets, '-inf', ARGV[2]) > 0 and 1 or 0, refused, finished.err and {} or finished,
}
