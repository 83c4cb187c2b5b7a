-- recover: takes tasks whose lease ended from their dead owners (transitions.md#retry, transitions.md#archive,
-- transitions.md#requeue).
--
-- KEYS  1 to 10 as in include/settle.lua
-- ARGV  1 to 8 as in include/settle.lua, 9 number of items, then the items; an item's fence is the
--       lease in s that was seen
-- returns {codes, note on counters}; codes as in include/settle.lua
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The lease is tested again for each item: a task whose owner lives after all, or that another
-- server recovered, answers 0. A stranger's fraction was floored when it was read. A task that goes back to
-- pending was not started, which is counted.

local codes, later, _, note = settle(10, tonumber(ARGV[9]), function(fence, _, score)
  return score and math.floor(score) == tonumber(fence)
end)
if not codes then
  return wrong_type(later)
end
local pos = 10
for i = 1, #codes do
  local kind = ARGV[pos + 2]
  local key = ARGV[1] .. 't:' .. ARGV[pos]
  -- A request to cancel its run may have archived or deleted it.
  if kind == 'q' and string.sub(codes, i, i) == '1' and redis.call('HGET', key, 'state') == 'pending' then
    redis.call('HSET', key, 'x:unstarted', (tonumber(redis.call('HGET', key, 'x:unstarted') or '') or 0) + 1)
  end
  pos = pos + WIDTH[kind]
end
return { codes, note }
