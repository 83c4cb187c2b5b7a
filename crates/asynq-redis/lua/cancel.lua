-- cancel: asks to end the run of an active task, and keeps the request with the task.
--
-- KEYS  1 task
-- ARGV  1 id, 2 channel of cancel requests, 3 fate of the task: retry, archive, delete, 4 when the task last
--       failed in s
-- returns {1 kept, 2 published only, 0 refused, damage of the task, state in which it is refused}; '' where
--       there is none
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown
--
-- The request that is kept carries the token of the run, x:take. If there is no token, or the task has failed
-- after the lease in the token, a Go server has taken the task, and nothing is kept. The first write frees
-- memory and changes nothing. It fails if the server refuses writes, and then no message is published, because
-- PUBLISH is not a write. If PUBLISH is not permitted, nothing is kept.

local STATES = {
  pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}
local task = redis.pcall('HMGET', KEYS[1], 'state', 'msg', 'x:take')
if task.err or not task[2] then
  return { 0, damage(KEYS[1]), '' }
elseif task[1] ~= 'active' then
  return { 0, STATES[task[1]] and '' or 's', STATES[task[1]] and task[1] or '' }
end
redis.call('HDEL', KEYS[1], '')
redis.call('PUBLISH', ARGV[2], ARGV[1])
local taken_until = task[3] and tonumber(string.match(task[3], '@(%d+)$'))
if not task[3] or taken_until and tonumber(ARGV[4]) >= taken_until then
  redis.call('HDEL', KEYS[1], 'x:cancel')
  return { 2, '', '' }
end
redis.call('HSET', KEYS[1], 'x:cancel', ARGV[3] .. ' ' .. task[3])
return { 1, '', '' }
