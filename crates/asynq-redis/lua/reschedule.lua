-- reschedule: changes the time at which a waiting task is due.
--
-- KEYS  1 task, 2 scheduled, 3 retry, 4 archived
-- ARGV  1 queue prefix, 2 id, 3 time as in include/exact.lua
-- returns {1 moved else 0, damage of the task, state in which it is refused}; '' where there is none
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown, p it does not stand
--       where its state says
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task of the archive becomes scheduled, and does not return to a group. The lock of a scheduled task, which lives
-- for its time from when the task is due, moves with the task. The first write frees memory.

local FROM = { scheduled = KEYS[2], retry = KEYS[3], archived = KEYS[4] }
local REFUSED = { pending = true, active = true, completed = true, aggregating = true }

local prefix, id, key = ARGV[1], ARGV[2], KEYS[1]
local task = try('HMGET', key, 'state', 'msg', 'unique_key')
if task.err or not task[2] then
  return { 0, damage(key), '' }
end
local state, lock = task[1], task[3]
local from, to = FROM[state], state == 'retry' and KEYS[3] or KEYS[2]
if REFUSED[state] then
  return { 0, '', state }
elseif not from then
  return { 0, 's', '' }
end
local bad = misfit({ from, 'zset', to, 'zset' })
if bad then
  return wrong_type(bad)
end
local before = call('ZSCORE', from, id)
if not before then
  return { 0, 'p', '' }
end

call('ZREM', from, id)
local score, exact = time_sent(ARGV[3])
call('HSET', key, 'state', state == 'retry' and 'retry' or 'scheduled')
call('HDEL', key, 'pending_since', 'x:take', 'x:adopt', 'x:cancel', 'x:at')
if state == 'archived' then
  call('HDEL', key, 'group')
end
if exact then
  call('HSET', key, 'x:at', exact)
end
call('ZADD', to, score, id)
local start = prefix .. 'unique:'
if state == 'scheduled' and lock and string.sub(lock, 1, #start) == start and try('GET', lock) == id then
  local ttl = call('TTL', lock)
  if ttl >= 0 then
    call('EXPIRE', lock, string.format('%.0f', math.max(1, ttl + tonumber(score) - math.floor(tonumber(before)))))
  end
end
return { 1, '', '' }
