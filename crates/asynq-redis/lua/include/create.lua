-- include: new tasks. Shared by enqueue.lua and finish_aggregation.lua.
-- Needs container.lua and exact.lua.
--
-- KEYS  1 pending, 2 scheduled, 3 groups
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns
-- items id, kind and x:enq token in one (1 and 16 characters; behind a space the deadline in ms, where it is no
--       whole second), msg and what belongs to the kind:
--       p -                pending
--       s process-at       scheduled; as in include/exact.lua
--       g group            into a group
--       P, S, G            the same, then lock, its time to live in s (at least 1): unique
-- codes one character an item: 1 created, 2 the same request created it before, d the lock is taken,
--       0 the id is taken, w the place for it holds another type, i the index of groups does

local WIDTH = { p = 3, s = 4, g = 4, P = 5, S = 6, G = 6 }

-- The kind of the item at ARGV[pos].
local function create_kind(pos)
  return string.sub(ARGV[pos + 1], 1, 1)
end

-- Which places hold another type, of those that `n` items from ARGV[first] on would be written to: their
-- keys by kind, and by `g:` and a group. Nil if all are well.
local function create_misfits(first, n)
  local misfits, looked, pos = nil, {}, first
  local function look(place, key, want)
    if not looked[place] then
      looked[place] = true
      if not holds(key, want) then
        misfits = misfits or {}
        misfits[place] = key
      end
    end
  end
  for _ = 1, n do
    local kind = create_kind(pos)
    local where = string.lower(kind)
    if where == 'p' then
      look(where, KEYS[1], 'list')
    elseif where == 's' then
      look(where, KEYS[2], 'zset')
    else
      look(where, KEYS[3], 'set')
      local group = ARGV[pos + 3]
      look('g:' .. group, ARGV[1] .. 'g:' .. group, 'zset')
    end
    pos = pos + WIDTH[kind]
  end
  return misfits
end

-- What refuses the item at ARGV[pos]: i for the index of groups, w for the place itself, or nil.
local function create_refusal(misfits, pos)
  local where = string.lower(create_kind(pos))
  if misfits[where] then
    return where == 'g' and 'i' or 'w'
  end
  return where == 'g' and misfits['g:' .. ARGV[pos + 3]] and 'w' or nil
end

-- The key that refuses the one item at ARGV[first], or nil.
local function create_misfit(first)
  local misfits = create_misfits(first, 1)
  return misfits and select(2, next(misfits))
end

-- The token of the item at ARGV[pos].
local function create_token(pos)
  return string.sub(ARGV[pos + 1], 2, 17)
end

-- What stands against an item: 2, d, 0, or nil if nothing does. The lock comes before the id.
local function create_conflict(pos, lock)
  local key = ARGV[1] .. 't:' .. ARGV[pos]
  local owner = lock and redis.pcall('GET', lock)
  local exists = redis.call('EXISTS', key) == 1
  if not owner and not exists then
    return nil
  end
  if exists and (not owner or owner == ARGV[pos]) and redis.pcall('HGET', key, 'x:enq') == create_token(pos) then
    return '2'
  end
  return owner and 'd' or '0'
end

-- Creates `n` tasks, each for itself, in order, but those whose place is among the misfits. The first
-- write is one that Redis refuses under maxmemory. Returns the codes and where the items end.
local function create(first, n, misfits)
  local prefix, codes, pushed, pos = ARGV[1], {}, {}, first
  for i = 1, n do
    local id, kind, token, msg = ARGV[pos], create_kind(pos), create_token(pos), ARGV[pos + 2]
    local width = WIDTH[kind]
    local lock = width > 4 and ARGV[pos + width - 2] or nil
    local code = misfits and create_refusal(misfits, pos) or create_conflict(pos, lock)
    if not code then
      code = '1'
      local key = prefix .. 't:' .. id
      local where = string.lower(kind)
      if where == 'p' then
        redis.call('HSET', key, 'msg', msg, 'state', 'pending', 'pending_since', ARGV[3], 'x:enq', token)
        pushed[#pushed + 1] = id
      elseif where == 's' then
        local score, exact = time_sent(ARGV[pos + 3])
        redis.call('HSET', key, 'msg', msg, 'state', 'scheduled', 'x:enq', token)
        if exact then
          redis.call('HSET', key, 'x:at', exact)
        end
        redis.call('ZADD', KEYS[2], score, id)
      else
        local group = ARGV[pos + 3]
        redis.call('HSET', key, 'msg', msg, 'state', 'aggregating', 'group', group, 'x:enq', token)
        redis.call('ZADD', prefix .. 'g:' .. group, ARGV[2], id)
        redis.call('SADD', KEYS[3], group)
      end
      if #ARGV[pos + 1] > 17 then
        redis.call('HSET', key, 'x:deadline', string.sub(ARGV[pos + 1], 19))
      end
      if lock then
        redis.call('HSET', key, 'unique_key', lock)
        redis.call('SET', lock, id, 'EX', ARGV[pos + width - 1])
      end
    end
    codes[i] = code
    pos = pos + width
  end
  if #pushed > 0 then
    redis.call('LPUSH', KEYS[1], unpack(pushed))
  end
  return table.concat(codes), pos
end
