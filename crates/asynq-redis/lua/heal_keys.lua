-- heal_keys: looks at the keys of a queue, a part in each call, and repairs hashes that stand in no
-- container, groups missing from the index (pitfalls G4, G5), and locks without owner (SAFETY rule 8).
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 pattern of the queue's keys, 5 cursor of SCAN,
--       6 about how many keys of the database to look at
-- returns {cursor to go on at ('0': from the start), ids put where their state says, groups put into
--       the index, locks removed, put aside: id, kind ...}
--       kinds: h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task without a container becomes what its state says; one whose time is not known any more is due
-- now, an active one gets a lease that ends now.

local prefix, now = ARGV[1], ARGV[2]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end
local relisted, regrouped, unlocked, aside = {}, {}, {}, {}

local function relist(id, key, state, group)
  redis.call('ZREM', KEYS[3], '')
  if state == 'active' then
    redis.call('LPUSH', KEYS[2], id)
    redis.call('ZADD', KEYS[3], 'NX', now, id)
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

local function look_at_task(id, key)
  local task = redis.pcall('HMGET', key, 'state', 'group')
  local kind = nil
  if task.err then
    kind, task = 'h', {}
  elseif redis.call('HEXISTS', key, 'msg') == 0 then
    kind = 'm'
  elseif not STATES[task[1]] then
    kind = 's'
  end
  local group = task[2] or nil
  if group and not holds(prefix .. 'g:' .. group, 'zset') then
    return
  end
  -- Nearly all stand where their state says: look there first.
  if not kind and SET_OF[task[1]] and redis.call('ZSCORE', SET_OF[task[1]], id) then
    return
  end
  local found, all = places(id, group)
  if #found > 0 or not all then
    return
  elseif kind then
    redis.call('ZREM', KEYS[3], id)
    put_aside(prefix, id, now)
    aside[#aside + 1] = id
    aside[#aside + 1] = kind
  else
    relist(id, key, task[1], group)
  end
end

local function look_at_group(name, key)
  if redis.call('TYPE', key).ok == 'zset' and not redis.call('ZSCORE', KEYS[9], key)
    and redis.call('SISMEMBER', KEYS[8], name) == 0 then
    redis.call('ZREM', KEYS[3], '')
    redis.call('SADD', KEYS[8], name)
    regrouped[#regrouped + 1] = name
  end
end

local function look_at_lock(key)
  local id = redis.pcall('GET', key)
  if type(id) == 'string' and redis.call('EXISTS', prefix .. 't:' .. id) == 0 then
    redis.call('DEL', key)
    unlocked[#unlocked + 1] = key
  end
end

local page = redis.call('SCAN', ARGV[5], 'MATCH', ARGV[4], 'COUNT', ARGV[6])
local done = {}
for _, key in ipairs(page[2]) do
  local suffix = string.sub(key, #prefix + 1)
  if done[key] or string.sub(key, 1, #prefix) ~= prefix then
    -- A page may show a key twice.
  elseif string.sub(suffix, 1, 2) == 't:' then
    look_at_task(string.sub(suffix, 3), key)
  elseif string.sub(suffix, 1, 2) == 'g:' then
    look_at_group(string.sub(suffix, 3), key)
  elseif string.sub(suffix, 1, 7) == 'unique:' then
    look_at_lock(key)
  end
  done[key] = true
end
return { page[1], relisted, regrouped, unlocked, aside }
