-- list_tasks: reads a part of a container with its tasks (transitions.md#list-tasks). Reads only.
--
-- KEYS  1 container, 2 lease
-- ARGV  1 queue prefix, 2 list (counted from the tail) or zset, 3 first, 4 most ids, 5 most bytes of
--       messages, results and progress (the first excepted)
-- returns {1 if the bound of bytes cut it short else 0, for each id: id, score in s ('' in a list), kind, msg,
--       result, lease in s, progress ...}; the last four are '' where there is none
--       kinds: n no key, h not a hash, m no message, '' usable
--       or {WRONGTYPE, key}: refused

local prefix, first, most = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local list = ARGV[2] == 'list'
local bad = misfit({ KEYS[1], ARGV[2] })
if bad then
  return wrong_type(bad)
end
local entries = {}
if list then
  local ids = redis.call('LRANGE', KEYS[1], -(first + most), -(first + 1))
  for i = #ids, 1, -1 do
    entries[#entries + 1] = ids[i]
    entries[#entries + 1] = ''
  end
else
  entries = redis.call('ZRANGE', KEYS[1], first, first + most - 1, 'WITHSCORES')
end
local reply, bytes = { 0 }, 0
for i = 1, #entries, 2 do
  local id = entries[i]
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'msg', 'result', 'x:progress')
  local kind, msg, result, lease, progress = '', '', '', '', ''
  if task.err or not task[1] then
    kind = damage(key)
  else
    msg, result, progress = task[1], task[2] or '', task[3] or ''
    lease = list and redis.pcall('ZSCORE', KEYS[2], id) or ''
    lease = type(lease) == 'string' and lease or ''
  end
  bytes = bytes + #msg + #result + #progress
  if bytes > tonumber(ARGV[5]) and #reply > 1 then
    reply[1] = 1
    break
  end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = id, entries[i + 1], kind
  reply[n + 4], reply[n + 5], reply[n + 6], reply[n + 7] = msg, result, lease, progress
end
return reply
