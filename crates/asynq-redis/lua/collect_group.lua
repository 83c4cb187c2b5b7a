-- collect_group: makes an aggregation set of a group that is full or old enough (A.20).
--
-- KEYS  1 group, 2 the new set, 3 aggregation_sets, 4 groups
-- ARGV  1 group name, 2 most tasks in the set (0: no limit), 3 oldest task added at or before, in s
--       ('': no limit), 4 newest task added at or before, in s, 5 end of the set in s
-- returns number of tasks in the set, 0 if the group is not ready
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- Hashes are not touched: their state stays `aggregating`. The first write frees or renames, so this
-- runs under maxmemory.

local group, set, sets, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bad = misfit({ group, 'zset', set, 'zset', sets, 'zset', groups, 'set' })
if bad then
  return wrong_type(bad)
end
local size, most = redis.call('ZCARD', group), tonumber(ARGV[2])
if size == 0 then
  redis.call('SREM', groups, ARGV[1])
  return 0
end
local oldest = tonumber(redis.call('ZRANGE', group, 0, 0, 'WITHSCORES')[2])
local newest = tonumber(redis.call('ZRANGE', group, -1, -1, 'WITHSCORES')[2])
local full = most > 0 and size >= most
local old = ARGV[3] ~= '' and oldest <= tonumber(ARGV[3])
if not (full or old or newest <= tonumber(ARGV[4])) then
  return 0
end
if most == 0 or size <= most then
  redis.call('RENAME', group, set)
  redis.call('SREM', groups, ARGV[1])
else
  redis.call('ZREM', group, '')
  redis.call('ZRANGESTORE', set, group, 0, most - 1)
  redis.call('ZREMRANGEBYRANK', group, 0, most - 1)
  size = most
end
redis.call('ZADD', sets, ARGV[5], set)
return size
