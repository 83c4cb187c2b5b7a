-- include: new tasks. Shared by enqueue.lua and finish_aggregation.lua.
-- Needs container.lua.
--
-- KEYS  1 pending, 2 scheduled, 3 groups
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns
-- items id, kind, x:enq token, msg and what belongs to the kind:
--       p -                pending
--       s process-at in s  scheduled
--       g group            into a group
--       P, S, G            the same, then lock, its time to live in s (at least 1): unique
-- codes one character an item: 1 created, 2 the same request created it before, d the lock is taken,
--       0 the id is taken

local WIDTH = { p = 4, s = 5, g = 5, P = 6, S = 7, G = 7 }

-- Whether any of `n` items that begin at ARGV[first] would be written to a container of the wrong
-- type: its key, or nil.
local function create_misfit(first, n)
  local used, groups, pos = {}, {}, first
  for _ = 1, n do
    local kind = ARGV[pos + 1]
    used[string.lower(kind)] = true
    if kind == 'g' or kind == 'G' then
      groups[ARGV[pos + 4]] = true
    end
    pos = pos + WIDTH[kind]
  end
  local bad = (used.p and misfit({ KEYS[1], 'list' })) or (used.s and misfit({ KEYS[2], 'zset' }))
    or (used.g and misfit({ KEYS[3], 'set' }))
  for group in pairs(groups) do
    bad = bad or misfit({ ARGV[1] .. 'g:' .. group, 'zset' })
  end
  return bad or nil
end

-- What stands against an item: 2, d, 0, or nil if nothing does. The lock comes before the id.
local function create_conflict(pos, lock)
  local key = ARGV[1] .. 't:' .. ARGV[pos]
  local owner = lock and redis.pcall('GET', lock)
  local exists = redis.call('EXISTS', key) == 1
  if not owner and not exists then
    return nil
  end
  if exists and (not owner or owner == ARGV[pos]) and redis.pcall('HGET', key, 'x:enq') == ARGV[pos + 2] then
    return '2'
  end
  return owner and 'd' or '0'
end

-- Creates `n` tasks, each for itself, in order. The first write is one that Redis refuses under
-- maxmemory. Returns the codes and where the items end.
local function create(first, n)
  local prefix, codes, pushed, pos = ARGV[1], {}, {}, first
  for i = 1, n do
    local id, kind, token, msg = ARGV[pos], ARGV[pos + 1], ARGV[pos + 2], ARGV[pos + 3]
    local width = WIDTH[kind]
    local lock = width > 5 and ARGV[pos + width - 2] or nil
    local code = create_conflict(pos, lock)
    if not code then
      code = '1'
      local key = prefix .. 't:' .. id
      local where = string.lower(kind)
      if where == 'p' then
        redis.call('HSET', key, 'msg', msg, 'state', 'pending', 'pending_since', ARGV[3], 'x:enq', token)
        pushed[#pushed + 1] = id
      elseif where == 's' then
        redis.call('HSET', key, 'msg', msg, 'state', 'scheduled', 'x:enq', token)
        redis.call('ZADD', KEYS[2], ARGV[pos + 4], id)
      else
        local group = ARGV[pos + 4]
        redis.call('HSET', key, 'msg', msg, 'state', 'aggregating', 'group', group, 'x:enq', token)
        redis.call('ZADD', prefix .. 'g:' .. group, ARGV[2], id)
        redis.call('SADD', KEYS[3], group)
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
