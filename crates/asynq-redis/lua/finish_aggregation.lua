-- finish_aggregation: enqueues the aggregated task in the place of a set (transitions.md#finish-a-set,
-- rules.md#one-script-ends-a-set).
--
-- KEYS  1 pending, 2 scheduled, 3 groups, 4 set, 5 aggregation_sets, 6 x:finished, 7 x:finished:<set>
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, then one item as in include/create.lua
-- returns the code as in include/create.lua, or g: the set is no longer listed, nothing was done
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The same step moves the set to the sets whose tasks are to be deleted, so that it is never handed back.
-- forget_finished.lua deletes the tasks in parts, in a call of any server. If the new task conflicts, the set
-- stays as it is. The first write frees memory, so the script runs under maxmemory.

local set, sets = KEYS[4], KEYS[5]
local bad = create_misfit(4) or misfit({ set, 'zset', sets, 'zset', KEYS[6], 'zset' })
if bad then
  return wrong_type(bad)
end
local width = WIDTH[create_kind(4)]
local code = create_conflict(4, width > 4 and ARGV[4 + width - 2] or nil)
local listed = redis.call('ZSCORE', sets, set)
if not listed then
  return code == '2' and '2' or 'g'
elseif code and code ~= '2' then
  return code
end

redis.call('ZREM', sets, set)
if redis.call('EXISTS', set) == 1 then
  redis.call('RENAME', set, KEYS[7])
  redis.call('ZADD', KEYS[6], ARGV[2], KEYS[7])
end
return code or (create(4, 1))
