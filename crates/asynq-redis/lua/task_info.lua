-- task_info: reads one task (transitions.md#task-info). Reads only.
--
-- KEYS  1 task, 2 scheduled, 3 retry, 4 lease
-- ARGV  1 id
-- returns {kind, state, msg, result, score in scheduled or retry in s, lease in s, progress}; '' where there
--       is none
--       kinds: n no key, h not a hash, m no message, '' usable

local task = redis.pcall('HMGET', KEYS[1], 'state', 'msg', 'result', 'x:progress')
if task.err or not task[2] then
  return { damage(KEYS[1]), '', '', '', '', '', '' }
end
local function score(key)
  local found = redis.pcall('ZSCORE', key, ARGV[1])
  return type(found) == 'string' and found or ''
end
local due = (task[1] == 'scheduled' and score(KEYS[2])) or (task[1] == 'retry' and score(KEYS[3])) or ''
local lease = task[1] == 'active' and score(KEYS[4]) or ''
return { '', task[1] or '', task[2], task[3] or '', due, lease, task[4] or '' }
