-- include: puts a task into the container of its state. Needs places.lua, ARGV 1 queue prefix

-- Makes a task pending, as the last in its queue.
local function make_pending(id, key, nanos)
  redis.call('HSET', key, 'state', 'pending', 'pending_since', nanos)
  redis.call('HDEL', key, 'x:take', 'x:adopt', 'x:cancel', 'x:at')
  redis.call('LPUSH', KEYS[1], id)
end

-- Puts a task that is in no container into the container of its state, and returns that state. If the time of the
-- task is not known any more, it is due now, and an active task gets a lease that ends now. A completed task is kept for
-- a day, because it would be deleted otherwise.
local function list_by_state(id, key, state, group, now, nanos)
  redis.call('ZREM', KEYS[3], '')
  if state == 'active' then
    redis.call('LPUSH', KEYS[2], id)
    redis.call('ZADD', KEYS[3], 'NX', now, id)
  elseif SET_OF[state] then
    redis.call('ZADD', SET_OF[state], state == 'completed' and now + 86400 or now, id)
  elseif state == 'aggregating' and group and group ~= '' then
    redis.call('ZADD', ARGV[1] .. 'g:' .. group, now, id)
    redis.call('SADD', KEYS[8], group)
  else
    make_pending(id, key, nanos)
    state = 'pending'
  end
  return state
end

-- Makes a task active that is in `active` under another state.
local function make_active(id, key, now)
  redis.call('ZREM', KEYS[3], '')
  redis.call('HSET', key, 'state', 'active')
  redis.call('HDEL', key, 'pending_since', 'x:take', 'x:adopt', 'x:cancel', 'x:at')
  redis.call('ZADD', KEYS[3], 'NX', now, id)
end
