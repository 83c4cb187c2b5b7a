-- expired: lists active tasks whose lease ended (A.16).
--
-- KEYS  1 lease, 2 active
-- ARGV  1 queue prefix, 2 cut-off in s (inclusive), 3 most tasks, 4 most bytes of messages (the
--       first excepted), 5 now in s, 6 how often a task may be given back that was not started
-- returns {tasks: id, lease in s, 1 if it may be given back as not started else 0, msg ..., put aside: id, kind ..., 1 if there are more else 0}
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- Reads only, unless ids without a usable task lie in the way: they leave `active` and `lease`
-- (pitfalls G8, G11). Leases of tasks that are not active are removed in passing.
--
-- The token of a take of ours ends with its lease. Where that is still the lease of the task, its owner
-- held it for less than a heartbeat, so it may never have been started.

local STATES = {
  pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}
local prefix, lease, active = ARGV[1], KEYS[1], KEYS[2]
local bad = misfit({ lease, 'zset', active, 'list' })
if bad then
  return wrong_type(bad)
end
local entries = redis.call('ZRANGEBYSCORE', lease, '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local tasks, aside, stale, bytes, looked = {}, {}, {}, 0, 0
for i = 1, #entries, 2 do
  local id = entries[i]
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'msg', 'x:take', 'x:unstarted')
  if task.err or not task[2] then
    aside[#aside + 1] = id
    aside[#aside + 1] = damage(key)
  elseif task[1] == 'active' then
    bytes = bytes + #task[2]
    if bytes > tonumber(ARGV[4]) and #tasks > 0 then
      break
    end
    tasks[#tasks + 1] = id
    tasks[#tasks + 1] = entries[i + 1]
    local taken_until = task[3] and string.match(task[3], '@(%d+)$')
    local given_back = tonumber(task[4] or '0')
    local unstarted = taken_until == entries[i + 1] and given_back and given_back < tonumber(ARGV[6])
    tasks[#tasks + 1] = unstarted and 1 or 0
    tasks[#tasks + 1] = task[2]
  elseif STATES[task[1]] then
    stale[#stale + 1] = id
  else
    aside[#aside + 1] = id
    aside[#aside + 1] = 's'
  end
  looked = looked + 1
end
for i = 1, #aside, 2 do
  redis.call('LREM', active, -1, aside[i])
  redis.call('ZREM', lease, aside[i])
  put_aside(prefix, aside[i], ARGV[5])
end
if #stale > 0 then
  call_each('ZREM', lease, stale)
end
local left = redis.call('ZCOUNT', lease, '-inf', ARGV[2]) - #tasks / 4
return { tasks, aside, left > 0 and 1 or 0 }
