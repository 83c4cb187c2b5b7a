-- forget_finished: deletes tasks whose aggregated task is enqueued, and frees their locks, a part in each
-- call.
--
-- KEYS  1 x:finished, 2 x:finished:<set>
-- ARGV  1 queue prefix, 2 most tasks, then for each lock that is known of: lock, id
-- returns the number of tasks that are left
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A hash is kept if it belongs to a new task by now, or if its task waits in a group again.

local prefix, index, set = ARGV[1], KEYS[1], KEYS[2]
local bad = misfit({ index, 'zset', set, 'zset' })
if bad then
  return wrong_type(bad)
end
local ids = redis.call('ZRANGE', set, 0, tonumber(ARGV[2]) - 1)
local gone, locks = {}, {}
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'group', 'unique_key')
  if not task.err and task[1] == 'aggregating'
    and not (task[2] and type(redis.pcall('ZSCORE', prefix .. 'g:' .. task[2], id)) == 'string') then
    gone[#gone + 1] = key
    locks[#locks + 1] = { task[3], id }
  end
end
call_each('ZREM', set, ids)
unlink_all(gone)
for _, lock in ipairs(locks) do
  free_lock(prefix, lock[1], lock[2])
end
for i = 3, #ARGV, 2 do
  free_lock(prefix, ARGV[i], ARGV[i + 1])
end
local left = redis.call('ZCARD', set)
if left == 0 then
  redis.call('ZREM', index, set)
end
return left
