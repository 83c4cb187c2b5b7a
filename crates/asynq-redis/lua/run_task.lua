-- run_task: makes one task pending, as the last of its queue (transitions.md#run-a-task).
--
-- KEYS  1 task, 2 pending, 3 scheduled, 4 retry, 5 archived, 6 groups
-- ARGV  1 queue prefix, 2 id, 3 now in ns
-- returns {1 moved else 0, damage of the task, state in which it is refused}; '' where there is none
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown, p it does not stand
--       where its state says
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task that waits in a group leaves the group for good (differences.md#the-group-field), and the last task of
-- a group removes the group from the index. A task in an aggregation set is refused. The lock, the message and
-- the counters do not change. The first write is the ZREM.

local FROM = { scheduled = KEYS[3], retry = KEYS[4], archived = KEYS[5] }
local REFUSED = { pending = true, active = true, completed = true }

local prefix, id, key, pending, groups = ARGV[1], ARGV[2], KEYS[1], KEYS[2], KEYS[6]
local task = redis.pcall('HMGET', key, 'state', 'group', 'msg')
if task.err or not task[3] then
  return { 0, damage(key), '' }
end
local state, group = task[1], task[2]
if REFUSED[state] then
  return { 0, '', state }
end
local from = FROM[state]
local grouped = state == 'aggregating'
if grouped then
  if not group or group == '' then
    return { 0, 'p', '' }
  end
  from = prefix .. 'g:' .. group
elseif not from then
  return { 0, 's', '' }
end
local bad = misfit({ from, 'zset', pending, 'list', grouped and groups or pending, grouped and 'set' or 'list' })
if bad then
  return wrong_type(bad)
elseif redis.call('ZREM', from, id) == 0 then
  return { 0, grouped and '' or 'p', grouped and state or '' }
end

if grouped and redis.call('EXISTS', from) == 0 then
  redis.call('SREM', groups, group)
end
redis.call('HSET', key, 'state', 'pending', 'pending_since', ARGV[3])
redis.call('HDEL', key, 'group', 'x:take', 'x:adopt', 'x:cancel', 'x:at')
redis.call('LPUSH', pending, id)
return { 1, '', '' }
