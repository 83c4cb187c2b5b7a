-- queue_info: reads the numbers of a queue (transitions.md#queue-info). Reads only.
--
-- KEYS  1 pending, 2 active, 3 scheduled, 4 retry, 5 archived, 6 completed, 7 processed:<today>,
--       8 failed:<today>, 9 processed, 10 failed, 11 paused, 12 groups
-- ARGV  1 queue prefix
-- returns {lengths of 1 to 6, values of 7 to 10 ('' if there is none or it cannot be read),
--       1 if paused else 0, pending_since in ns of the task that runs next ('' if not known)}
--       or {WRONGTYPE, key}: refused
--
-- groups.lua counts the groups, in parts.

local bad = misfit({
  KEYS[1], 'list', KEYS[2], 'list', KEYS[3], 'zset', KEYS[4], 'zset', KEYS[5], 'zset', KEYS[6], 'zset', KEYS[12], 'set',
})
if bad then
  return wrong_type(bad)
end
local reply = {}
for i = 1, 6 do
  reply[i] = redis.call(i <= 2 and 'LLEN' or 'ZCARD', KEYS[i])
end
for i = 7, 10 do
  local value = redis.pcall('GET', KEYS[i])
  reply[i] = type(value) == 'string' and value or ''
end
reply[11] = redis.call('EXISTS', KEYS[11])
reply[12] = ''
local next_id = redis.call('LINDEX', KEYS[1], -1)
if next_id then
  local since = redis.pcall('HGET', ARGV[1] .. 't:' .. next_id, 'pending_since')
  reply[12] = type(since) == 'string' and since or ''
end
return reply
