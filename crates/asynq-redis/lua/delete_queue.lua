-- delete_queue: deletes a queue, a part of its tasks in each call (transitions.md#delete-a-queue).
--
-- KEYS  1 pending, 2 active, 3 lease, 4 scheduled, 5 retry, 6 archived, 7 completed, 8 groups,
--       9 aggregation_sets, 10 x:finished, 11 x:quarantine, 12 paused, then the other keys of the queue
-- ARGV  1 queue prefix, 2 `1` to delete the tasks, else `0`, 3 now in s, 4 most tasks
-- returns {1 deleted, 2 go on, 0 the queue has tasks, -1 it has active tasks; about how many tasks are left}
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A queue that has active tasks, or tasks that may not be deleted, is refused. While tasks are left the queue is
-- paused, so that none becomes active. With `1`, a key of another type is deleted as it is. Groups that are not in
-- the index, and tasks in no container, are not found; repairs put them back. The first write frees memory.

local prefix, force, most = ARGV[1], ARGV[2] == '1', tonumber(ARGV[4])
local TYPES = {
  'list', 'list', 'zset', 'zset', 'zset', 'zset', 'zset', 'set', 'zset', 'zset', 'zset',
}
-- Groups and sets that are looked into for tasks. A queue with more is taken to have some.
local MOST_GROUPS = 200

for i = 1, #TYPES do
  if not force and not holds(KEYS[i], TYPES[i]) then
    return wrong_type(KEYS[i])
  end
end
local function size(key)
  local command = { list = 'LLEN', zset = 'ZCARD', set = 'SCARD' }
  local kind = call('TYPE', key).ok
  return command[kind] and call(command[kind], key) or 0
end
-- Whether a key is the set of a group, an aggregation set, or the set of a finished one.
local function is_gathered(key)
  local start, finished = prefix .. 'g:', prefix .. 'x:finished:'
  return (string.sub(key, 1, #start) == start or string.sub(key, 1, #finished) == finished) and holds(key, 'zset')
end

if size(KEYS[2]) > 0 then
  return { -1, 0 }
end
local left = 0
for _, i in ipairs({ 1, 4, 5, 6, 7, 11 }) do
  left = left + size(KEYS[i])
end
local function gather(index, start)
  if size(index) > MOST_GROUPS then
    left = left + size(index)
    return
  end
  local kind = call('TYPE', index).ok
  local names = kind == 'set' and call('SMEMBERS', index) or kind == 'zset' and call('ZRANGE', index, 0, -1) or {}
  for _, name in ipairs(names) do
    if is_gathered(start .. name) then
      left = left + size(start .. name)
    end
  end
end
gather(KEYS[8], prefix .. 'g:')
gather(KEYS[9], '')
if left > 0 and not force then
  return { 0, left }
end

local room, gone, ends = most, {}, {}
-- Deletes tasks, whose keys may have another start.
local function delete(ids, start)
  for _, id in ipairs(ids) do
    local key = (start or prefix .. 't:') .. id
    local lock = try('HGET', key, 'unique_key')
    if type(lock) == 'string' then
      ends[#ends + 1] = { lock, id }
    end
    gone[#gone + 1] = key
  end
  room = room - #ids
end
-- Empties a container as far as there is room.
local function empty(key, start)
  local kind = call('TYPE', key).ok
  if kind == 'list' then
    local ids = call('LRANGE', key, -room, -1)
    delete(ids, start)
    call('LTRIM', key, 0, -#ids - 1)
  elseif kind == 'zset' then
    local ids = call('ZRANGE', key, 0, room - 1)
    delete(ids, start)
    call_each('ZREM', key, ids)
  elseif kind ~= 'none' then
    call('UNLINK', key)
  end
end
for _, i in ipairs({ 1, 4, 5, 6, 7 }) do
  if room > 0 then
    empty(KEYS[i])
  end
end
if room > 0 then
  empty(KEYS[11], prefix .. 'x:quarantine:')
end
-- Empties the sets that an index names, each of which costs room for one task.
local function empty_gathered(index, start, first, forget)
  while room > 0 and size(index) > 0 do
    local name = first(index)
    if is_gathered(start .. name) then
      empty(start .. name)
    end
    if not is_gathered(start .. name) or call('EXISTS', start .. name) == 0 then
      call(forget, index, name)
    end
    room = room - 1
  end
end
local function lowest(index)
  return call('ZRANGE', index, 0, 0)[1]
end
if call('TYPE', KEYS[8]).ok == 'set' then
  empty_gathered(KEYS[8], prefix .. 'g:', function(index) return call('SRANDMEMBER', index) end, 'SREM')
end
for _, i in ipairs({ 9, 10 }) do
  if call('TYPE', KEYS[i]).ok == 'zset' then
    empty_gathered(KEYS[i], '', lowest, 'ZREM')
  end
end
unlink_all(gone)
for _, lock in ipairs(ends) do
  free_lock(prefix, lock[1], lock[2])
end
if room > 0 then
  unlink_all(KEYS)
  return { 1, 0 }
end
if force then
  try('SET', KEYS[12], ARGV[3], 'NX')
end
return { 2, left }
