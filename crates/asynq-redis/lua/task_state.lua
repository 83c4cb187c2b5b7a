-- task_state: reads the state of one task, without its data (transitions.md#task-info). Reads only.
--
-- KEYS  1 task
-- returns {kind, state}; '' where there is none
--       kinds: n no key, h not a hash, m no message, '' usable

local message = redis.pcall('HEXISTS', KEYS[1], 'msg')
if message ~= 1 then
  return { damage(KEYS[1]), '' }
end
return { '', redis.call('HGET', KEYS[1], 'state') or '' }
