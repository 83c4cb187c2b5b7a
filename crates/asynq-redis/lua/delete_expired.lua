-- delete_expired: deletes completed tasks whose retention has ended (transitions.md#delete-expired).
--
-- KEYS  1 completed
-- ARGV  1 queue prefix, 2 now in s, 3 most tasks
-- returns the number of ids that left `completed`
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A hash whose task is in another container by now is kept.

local bad = misfit({ KEYS[1], 'zset' })
if bad then
  return wrong_type(bad)
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
local gone = {}
for _, id in ipairs(ids) do
  local key = ARGV[1] .. 't:' .. id
  if redis.pcall('HGET', key, 'state') == 'completed' then
    gone[#gone + 1] = key
  end
end
call_each('ZREM', KEYS[1], ids)
unlink_all(gone)
return #ids
