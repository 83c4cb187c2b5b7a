-- drop_dangling: removes ids without a task key from a sorted set of tasks, a part in each call.
--
-- KEYS  1 scheduled, retry, archived or completed
-- ARGV  1 queue prefix, 2 rank to begin at, 3 most ids
-- returns {rank to go on at (0: from the start), the ids}
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- Without this script, such ids would stay until they are due, or for as long as their tasks are kept: 90 days,
-- or their retention.

local bad = misfit({ KEYS[1], 'zset' })
if bad then
  return wrong_type(bad)
end
local first, most, gone = tonumber(ARGV[2]), tonumber(ARGV[3]), {}
local ids = redis.call('ZRANGE', KEYS[1], first, first + most - 1)
for _, id in ipairs(ids) do
  if redis.call('EXISTS', ARGV[1] .. 't:' .. id) == 0 then
    gone[#gone + 1] = id
  end
end
if #gone > 0 then
  call_each('ZREM', KEYS[1], gone)
end
return { #ids < most and 0 or first + most - #gone, gone }
