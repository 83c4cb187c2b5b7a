-- reclaim_sets: hands aggregation sets that outlived their time back to their groups (A.23).
--
-- KEYS  1 aggregation_sets, 2 groups
-- ARGV  1 queue prefix, 2 now in s, 3 most sets
-- returns {number of sets that left the list, 1 if there are more else 0}
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The group is put into the index again (pitfalls G4).

local sets, groups = KEYS[1], KEYS[2]
local bad = misfit({ sets, 'zset', groups, 'set' })
if bad then
  return wrong_type(bad)
end
local stale = redis.call('ZRANGEBYSCORE', sets, '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
local start, back = ARGV[1] .. 'g:', {}
for _, set in ipairs(stale) do
  -- All between `g:` and the last colon is the group's name.
  local group = string.sub(set, 1, #start) == start and string.match(string.sub(set, #start + 1), '^(.*):[^:]*$')
  if group and redis.call('TYPE', set).ok == 'zset' then
    if not holds(start .. group, 'zset') then
      return wrong_type(start .. group)
    end
    back[set] = group
  end
end
for _, set in ipairs(stale) do
  redis.call('ZREM', sets, set)
  local group = back[set]
  if group then
    local key = start .. group
    if redis.call('EXISTS', key) == 0 then
      redis.call('RENAME', set, key)
    else
      redis.call('ZUNIONSTORE', key, 2, key, set, 'AGGREGATE', 'MIN')
      redis.call('UNLINK', set)
    end
    redis.call('SADD', groups, group)
  end
end
return { #stale, redis.call('ZCOUNT', sets, '-inf', ARGV[2]) > 0 and 1 or 0 }
