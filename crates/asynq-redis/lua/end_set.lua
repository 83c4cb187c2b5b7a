-- end_set: moves the end of an aggregation set to a later or an earlier time (differences.md#slow-aggregators).
--
-- KEYS  1 aggregation_sets
-- ARGV  1 set key, 2 new end in s, 3 'GT': only if that is later, 'LT': only if sooner
-- returns the end now in force in s, or '' if the set is no longer listed
--       or {WRONGTYPE, key}: refused, nothing was written

local bad = misfit({ KEYS[1], 'zset' })
if bad then
  return wrong_type(bad)
end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return ''
end
-- A write that frees memory, so that the rest is allowed under maxmemory.
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[1], 'XX', ARGV[3], ARGV[2], ARGV[1])
return redis.call('ZSCORE', KEYS[1], ARGV[1])
