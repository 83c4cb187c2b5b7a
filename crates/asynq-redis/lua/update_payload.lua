-- update_payload: replaces the message of a scheduled task by one with another payload
-- (transitions.md#update-a-payload).
--
-- KEYS  1 task
-- ARGV  1 message as it was read, 2 new message
-- returns {1 written, 2 the message has changed since it was read, 0 refused, damage of the task, state in which it
--       is refused}; '' where there is none
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown
--
-- The lock keeps its name, which is that of the payload at the enqueue. The only write needs memory.

local STATES = {
  active = true, pending = true, retry = true, archived = true, completed = true, aggregating = true,
}
local task = redis.pcall('HMGET', KEYS[1], 'state', 'msg')
if task.err or not task[2] then
  return { 0, damage(KEYS[1]), '' }
elseif task[1] ~= 'scheduled' then
  return { 0, STATES[task[1]] and '' or 's', STATES[task[1]] and task[1] or '' }
elseif task[2] ~= ARGV[1] then
  return { 2, '', '' }
end
redis.call('HSET', KEYS[1], 'msg', ARGV[2])
return { 1, '', '' }
