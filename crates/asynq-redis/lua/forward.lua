-- forward: moves due tasks to pending, or into the group that the hash names (transitions.md#forward).
--
-- KEYS  1 scheduled, 2 retry, 3 pending, 4 groups
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 most tasks of each set, 5 when a task is due that is
--       put off in s
-- returns {number moved, next due in s ('' if none), unusable: id, kind ..., put off: id ...,
--       when the first that is held back is due in ms ('' if none)}
--       kinds: n no key, h not a hash, m no message
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The group of a moved task is added to the index (differences.md#groups-of-forwarded-tasks). Ids without a
-- task are dropped (differences.md#ids-without-a-hash). A task whose group holds another type is delayed, so
-- that it does not block other tasks. The first write of each set is the ZREM.
--
-- A score is a whole second, so a task of the present second may be due later in that second: x:at has the
-- exact time. Such tasks stay. The script checks the tasks behind them in the same second, up to a bound.

local prefix, pending, groups = ARGV[1], KEYS[3], KEYS[4]
local bad = misfit({ KEYS[1], 'zset', KEYS[2], 'zset', pending, 'list', groups, 'set' })
if bad then
  return wrong_type(bad)
end

-- Read.
local now, now_ms, most = tonumber(ARGV[2]), tonumber(string.sub(ARGV[3], 1, -7)), tonumber(ARGV[4])
local held, full = '', {}

-- The time in ms at which a task of this second is due, if that time has not passed.
local function held_until(id)
  local at = redis.pcall('HGET', prefix .. 't:' .. id, 'x:at')
  at = type(at) == 'string' and string.match(at, '^%d+$') and tonumber(at)
  return at and at > now_ms and at <= 1000 * now + 1000 and at
end

-- The due ids of a set, and whether there may be more.
local function due_of(set)
  local ids, from = {}, 0
  while from < 10 * most do
    local page = redis.call('ZRANGEBYSCORE', KEYS[set], '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', from, most)
    for i = 1, #page, 2 do
      local at = tonumber(page[i + 1]) == now and held_until(page[i])
      if not at then
        if #ids == most then
          return ids, true
        end
        ids[#ids + 1] = page[i]
      elseif held == '' or at < held then
        held = at
      end
    end
    if #page < 2 * most then
      return ids, false
    end
    from = from + most
  end
  return ids, #ids == most
end

local due, into, aside, off, is_off = {}, {}, {}, {}, {}
for set = 1, 2 do
  due[set], full[set] = due_of(set)
  for _, id in ipairs(due[set]) do
    local key = prefix .. 't:' .. id
    local group = redis.pcall('HGET', key, 'group')
    if type(group) == 'table' or redis.call('HEXISTS', key, 'msg') == 0 then
      aside[#aside + 1] = id
      aside[#aside + 1] = damage(key)
    elseif group and group ~= '' then
      if holds(prefix .. 'g:' .. group, 'zset') then
        into[id] = group
      elseif not is_off[id] then
        is_off[id] = true
        off[#off + 1] = id
      end
    else
      into[id] = ''
    end
  end
end

-- Write.
local moved = 0
for set = 1, 2 do
  if #due[set] > 0 then
    call_each('ZREM', KEYS[set], due[set])
    local pushed = {}
    for _, id in ipairs(due[set]) do
      local key, group = prefix .. 't:' .. id, into[id]
      if is_off[id] then
        redis.call('ZADD', KEYS[set], ARGV[5], id)
      elseif group == '' then
        redis.call('HSET', key, 'state', 'pending', 'pending_since', ARGV[3])
        redis.call('HDEL', key, 'x:take', 'x:adopt', 'x:cancel', 'x:at')
        pushed[#pushed + 1] = id
        moved = moved + 1
      elseif group then
        redis.call('HSET', key, 'state', 'aggregating')
        redis.call('HDEL', key, 'pending_since', 'x:take', 'x:adopt', 'x:cancel', 'x:at')
        redis.call('ZADD', prefix .. 'g:' .. group, ARGV[2], id)
        redis.call('SADD', groups, group)
        moved = moved + 1
      end
      -- An id in both sets moves only once.
      into[id] = nil
    end
    if #pushed > 0 then
      call_each('LPUSH', pending, pushed)
    end
  end
end
for i = 1, #aside, 2 do
  put_aside(prefix, aside[i], ARGV[2])
end

local next_due = ''
for set = 1, 2 do
  local first = redis.call('ZRANGE', KEYS[set], 0, 0, 'WITHSCORES')[2]
  if first and tonumber(first) <= now and not full[set] then
    -- Only delayed tasks of this second are left.
    first = nil
  end
  if first and (next_due == '' or tonumber(first) < tonumber(next_due)) then
    next_due = first
  end
end
return { moved, next_due, aside, off, held == '' and '' or string.format('%.0f', held) }
