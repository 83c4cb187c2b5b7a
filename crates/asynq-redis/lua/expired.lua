-- expired: lists active tasks whose lease ended (transitions.md#expired-leases).
--
-- KEYS  1 lease, 2 active
-- ARGV  1 queue prefix, 2 cut-off in s (inclusive), 3 most leases, 4 most bytes of messages (the
--       first excepted), 5 now in s, 6 how often a task may be given back that was not started,
--       7 lease in s and 8 id behind which to begin ('' and '': at the start), 9 most list entries passed
--       by LREM (the first one's excepted)
-- returns {tasks: id, lease in s, 1 if it may be given back as not started else 0, lease in s of our take or '',
--       msg ...,
--       unusable: id, kind ..., 1 if there are more behind else 0, lease and id behind which to go on}
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- Reads only, except that ids without a usable task are removed from `active` and `lease`
-- (differences.md#ids-without-a-hash, differences.md#poison-messages), and so are leases of tasks that are not
-- active. If the id behind which to begin is gone, the call begins with the leases that ended in the same
-- second.
--
-- The token of our take ends with the lease of the take. If the task still has this lease, its owner held the
-- task for less than a heartbeat, so the task may never have started.

local STATES = {
  pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}
local prefix, lease, active = ARGV[1], KEYS[1], KEYS[2]
local bad = misfit({ lease, 'zset', active, 'list' })
if bad then
  return wrong_type(bad)
end
local start, at = 0, { ARGV[7], ARGV[8] }
if ARGV[7] ~= '' then
  if redis.call('ZSCORE', lease, ARGV[8]) == ARGV[7] then
    start = redis.call('ZRANK', lease, ARGV[8]) + 1
  else
    start = redis.call('ZCOUNT', lease, '-inf', '(' .. ARGV[7])
  end
end
local cutoff, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local entries = redis.call('ZRANGE', lease, start, start + most - 1, 'WITHSCORES')
local tasks, aside, stale, bytes, left = {}, {}, {}, 0, 0
local length, passed = redis.call('LLEN', active), 0
for i = 1, #entries, 2 do
  local id = entries[i]
  local key = prefix .. 't:' .. id
  if tonumber(entries[i + 1]) > cutoff then
    break
  end
  local task = redis.pcall('HMGET', key, 'state', 'msg', 'x:take', 'x:unstarted')
  local kind = nil
  if task.err or not task[2] then
    kind = damage(key)
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
    tasks[#tasks + 1] = taken_until and #taken_until < 16 and taken_until or ''
    tasks[#tasks + 1] = task[2]
  elseif STATES[task[1]] then
    stale[#stale + 1] = id
  else
    kind = 's'
  end
  if kind then
    passed = passed + length
    if passed > tonumber(ARGV[9]) and #aside > 0 then
      break
    end
    aside[#aside + 1] = id
    aside[#aside + 1] = kind
  elseif task[1] == 'active' then
    left = left + 1
  end
  at = { entries[i + 1], id }
end
for i = 1, #aside, 2 do
  redis.call('LREM', active, -1, aside[i])
  redis.call('ZREM', lease, aside[i])
  put_aside(prefix, aside[i], ARGV[5])
end
if #stale > 0 then
  call_each('ZREM', lease, stale)
end
local behind = redis.call('ZRANGE', lease, start + left, start + left, 'WITHSCORES')[2]
return { tasks, aside, behind and tonumber(behind) <= cutoff and 1 or 0, at[1], at[2] }
