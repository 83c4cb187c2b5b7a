-- probe_pending: checks whether a task can be taken from one of the queues. Reads only, and only the keys that
-- it declares, so that a tracking connection watches them (rules.md#watches-only-read).
--
-- KEYS  for each queue: paused, pending
-- returns 1 if a queue is not paused and has a task, else 0

local found = 0
for i = 1, #KEYS, 2 do
  local length = redis.pcall('LLEN', KEYS[i + 1])
  if redis.call('EXISTS', KEYS[i]) == 0 and type(length) == 'number' and length > 0 then
    found = 1
  end
end
return found
