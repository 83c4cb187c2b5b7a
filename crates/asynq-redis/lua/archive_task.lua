-- archive_task: archives one task that waits (transitions.md#archive-a-task).
--
-- KEYS  1 task, 2 pending, 3 scheduled, 4 retry, 5 archived, 6 groups
-- ARGV  1 queue prefix, 2 id, 3 now in s, 4 archive cut-off in s, 5 archive limit, 6 most tasks trimmed
-- returns {1 moved else 0, damage of the task, state in which it is refused}; '' where there is none
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown, p it does not stand
--       where its state says
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task that waits in a group leaves the group for good (differences.md#the-group-field), and the last task of
-- a group removes the group from the index. A task in an aggregation set is refused. The lock, the message and
-- the counters do not change. The first write frees memory.

local FROM = { scheduled = KEYS[3], retry = KEYS[4], pending = KEYS[2] }
local REFUSED = { active = true, archived = true, completed = true }

local prefix, id, key, archived, groups = ARGV[1], ARGV[2], KEYS[1], KEYS[5], KEYS[6]
local task = try('HMGET', key, 'state', 'group', 'msg')
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
local kind = state == 'pending' and 'list' or 'zset'
local bad = misfit({ from, kind, archived, 'zset', grouped and groups or from, grouped and 'set' or kind })
if bad then
  return wrong_type(bad)
end
local removed = state == 'pending' and call('LREM', from, -1, id) or state ~= 'pending' and call('ZREM', from, id)
if removed == 0 then
  return { 0, grouped and '' or 'p', grouped and state or '' }
end

if grouped and call('EXISTS', from) == 0 then
  call('SREM', groups, group)
end
call('HSET', key, 'state', 'archived')
call('HDEL', key, 'pending_since', 'group', 'x:take', 'x:adopt', 'x:cancel', 'x:at', 'x:unstarted')
call('ZADD', archived, ARGV[3], id)
trim_archive(prefix, archived, ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
return { 1, '', '' }
