-- relist: looks for tasks in all the places there are, and puts those that do not stand where their
-- state says there, once (SAFETY rule 8, DESIGN promise 2).
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 number of groups and aggregation sets, then their
--       keys, then the ids, each once
-- returns {ids put where their state says, put aside: id, kind ...}
--       kinds: h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task without a container becomes what its state says; one whose time is not known any more is due
-- now, an active one gets a lease that ends now. One that stands in `active` alone, and says something
-- else, becomes active; if it stands elsewhere, too, it leaves `active`.

local prefix, now = ARGV[1], ARGV[2]
local active, lease = KEYS[2], KEYS[3]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end
local relisted, aside = {}, {}

local function list(id, key, state, group)
  redis.call('ZREM', lease, '')
  if state == 'active' then
    redis.call('LPUSH', active, id)
    redis.call('ZADD', lease, 'NX', now, id)
  elseif SET_OF[state] then
    redis.call('ZADD', SET_OF[state], now, id)
  elseif state == 'aggregating' and group and group ~= '' then
    redis.call('ZADD', prefix .. 'g:' .. group, now, id)
    redis.call('SADD', KEYS[8], group)
  else
    redis.call('HSET', key, 'state', 'pending', 'pending_since', ARGV[3])
    redis.call('HDEL', key, 'x:take', 'x:adopt')
    redis.call('LPUSH', KEYS[1], id)
  end
  relisted[#relisted + 1] = id
end

local function leave_or_enter_active(id, key, alone)
  if alone then
    redis.call('ZREM', lease, '')
    redis.call('HSET', key, 'state', 'active')
    redis.call('HDEL', key, 'pending_since', 'x:take', 'x:adopt')
    redis.call('ZADD', lease, 'NX', now, id)
  else
    redis.call('LREM', active, -1, id)
    redis.call('ZREM', lease, id)
  end
  relisted[#relisted + 1] = id
end

local n = tonumber(ARGV[4])
for i = 5 + n, #ARGV do
  local id = ARGV[i]
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'group')
  local kind = nil
  if task.err then
    kind, task = 'h', {}
  elseif redis.call('HEXISTS', key, 'msg') == 0 then
    kind = 'm'
  elseif not STATES[task[1]] then
    kind = 's'
  end
  local state, group = task[1], task[2] or nil
  if redis.call('EXISTS', key) == 1 and (not group or holds(prefix .. 'g:' .. group, 'zset')) then
    local known, others, searched = whereabouts(id, group, 5, n)
    if searched and #known + #others == 0 then
      if kind then
        redis.call('ZREM', lease, id)
        put_aside(prefix, id, now)
        aside[#aside + 1] = id
        aside[#aside + 1] = kind
      else
        list(id, key, state, group)
      end
    elseif searched and not kind and state ~= 'active' and in_list(active, id) > 0 then
      leave_or_enter_active(id, key, #known + #others == 1)
    end
  end
end
return { relisted, aside }
