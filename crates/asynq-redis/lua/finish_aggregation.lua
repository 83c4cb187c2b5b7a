-- finish_aggregation: enqueues the aggregated task and deletes the set with its tasks, in one step
-- (A.22, SAFETY rule 9).
--
-- KEYS  1 pending, 2 scheduled, 3 groups, 4 set, 5 aggregation_sets
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, then one item as in include/create.lua, then
--       number of locks of the tasks in the set, then for each: lock, id
-- returns the code as in include/create.lua, or g: the set is no longer listed, nothing was done
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A conflict of the new task leaves the set as it is. It frees more than it adds and begins with
-- that, so it runs under maxmemory.

local prefix, set, sets = ARGV[1], KEYS[4], KEYS[5]
local bad = create_misfit(4, 1) or misfit({ set, 'zset', sets, 'zset' })
if bad then
  return wrong_type(bad)
end
local width = WIDTH[ARGV[5]]
local code = create_conflict(4, width > 5 and ARGV[4 + width - 2] or nil)
local listed = redis.call('ZSCORE', sets, set)
if not listed then
  return code == '2' and '2' or 'g'
elseif code and code ~= '2' then
  return code
end

redis.call('ZREM', sets, set)
local ids = redis.call('ZRANGE', set, 0, -1)
redis.call('UNLINK', set)
local gone = {}
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  if redis.pcall('HGET', key, 'state') == 'aggregating' then
    gone[#gone + 1] = key
  end
end
if not code then
  code = create(4, 1)
end
unlink_all(gone)
local first = 4 + width
for i = 1, tonumber(ARGV[first]) do
  free_lock(prefix, ARGV[first + 2 * i - 1], ARGV[first + 2 * i])
end
return code
