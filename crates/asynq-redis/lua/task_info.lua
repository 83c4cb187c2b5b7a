-- task_info: reads one task (transitions.md#task-info). Reads only.
--
-- KEYS  1 task, 2 scheduled, 3 retry, 4 archived, 5 lease
-- ARGV  1 id, 2 queue prefix
-- returns {kind, state, msg, result, score in scheduled, retry, archived or its group in s, lease in s, progress,
--       pending_since in ns, runs}; '' where there is none
--       kinds: n no key, h not a hash, m no message, '' usable

local task = redis.pcall(
  'HMGET', KEYS[1], 'state', 'msg', 'result', 'x:progress', 'pending_since', 'group', 'x:runs'
)
if task.err or not task[2] then
  return { damage(KEYS[1]), '', '', '', '', '', '', '', '' }
end
local function score(key)
  local found = key and redis.pcall('ZSCORE', key, ARGV[1])
  return type(found) == 'string' and found or ''
end
local state = task[1] or ''
local container = ({
  scheduled = KEYS[2], retry = KEYS[3], archived = KEYS[4], aggregating = ARGV[2] .. 'g:' .. (task[6] or ''),
})[state]
local lease = state == 'active' and score(KEYS[5]) or ''
return { '', state, task[2], task[3] or '', score(container), lease, task[4] or '', task[5] or '', task[7] or '' }
