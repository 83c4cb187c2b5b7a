-- delete_task: deletes one task that is not active, or what is left of one (transitions.md#delete-a-task).
--
-- KEYS  1 task, 2 pending, 3 scheduled, 4 retry, 5 archived, 6 completed, 7 groups, 8 active, 9 lease
-- ARGV  1 queue prefix, 2 id, 3 most groups that are searched for an id
-- returns {1 deleted else 0, damage of the task, state in which it is refused}; '' where there is none
--       kinds: n no key, and no container has the id
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- An id that is not in the container of its state is removed from all containers, except that a task that waits
-- in no group is in an aggregation set, and is refused. A container of another type has no ids. The lock is freed
-- if it holds the id. The first write frees memory.

local LISTED = { scheduled = KEYS[3], retry = KEYS[4], archived = KEYS[5], completed = KEYS[6] }

local prefix, id, key, pending, groups = ARGV[1], ARGV[2], KEYS[1], KEYS[2], KEYS[7]
local task = try('HMGET', key, 'state', 'group', 'unique_key')
local is_hash = not task.err
local state, group, lock = task[1], task[2], task[3]
local has_message = is_hash and call('HEXISTS', key, 'msg') == 1
if state == 'active' and has_message then
  return { 0, '', state }
end

local removed = 0
local function leave(command, container, ...)
  local count = try(command, container, ...)
  removed = removed + (type(count) == 'number' and count or 0)
end
local function leave_group(of)
  leave('ZREM', prefix .. 'g:' .. of, id)
  if call('EXISTS', prefix .. 'g:' .. of) == 0 then
    try('SREM', groups, of)
  end
end

local grouped = is_hash and state == 'aggregating' and group and group ~= ''
local own = state == 'pending' and pending or grouped and prefix .. 'g:' .. group or is_hash and LISTED[state] or nil
if own and not holds(own, state == 'pending' and 'list' or 'zset') then
  return wrong_type(own)
elseif own and grouped and not holds(groups, 'set') then
  return wrong_type(groups)
elseif grouped then
  leave_group(group)
  if removed == 0 and has_message then
    return { 0, '', state }
  end
elseif own and state ~= 'pending' then
  leave('ZREM', own, id)
end
if removed == 0 then
  for _, container in pairs(LISTED) do
    leave('ZREM', container, id)
  end
  leave('LREM', pending, 0, id)
  if not has_message then
    leave('LREM', KEYS[8], 0, id)
    leave('ZREM', KEYS[9], id)
    local size = try('SCARD', groups)
    if type(size) == 'number' and size <= tonumber(ARGV[3]) then
      for _, of in ipairs(call('SMEMBERS', groups)) do
        leave_group(of)
      end
    end
  end
end
if removed == 0 and call('EXISTS', key) == 0 then
  return { 0, 'n', '' }
end
if is_hash then
  free_lock(prefix, lock, id)
end
call('UNLINK', key)
return { 1, '', '' }
