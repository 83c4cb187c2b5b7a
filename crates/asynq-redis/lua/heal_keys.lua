-- heal_keys: looks at the keys of a queue, a part in each call: puts groups missing from the index
-- back (pitfalls G4, G5), and aggregation sets missing from theirs; removes locks without owner
-- (SAFETY rule 8).
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 when a set that is listed again is handed back in s,
--       3 pattern of the queue's keys, 4 cursor of SCAN, 5 about how many keys of the database to look at
-- returns {cursor to go on at ('0': from the start), ids of tasks that may stand in no container,
--       groups put into the index, sets listed again, locks removed}
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- What may stand in no container is left to relist.lua.

local prefix = ARGV[1]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end
local doubtful, regrouped, relisted, unlocked = {}, {}, {}, {}

local function look_at_task(id, key)
  local task = redis.pcall('HMGET', key, 'state', 'group')
  if task.err then
    task = {}
  end
  -- Nearly all stand where their state says: look there first.
  local set = SET_OF[task[1]]
  if set and redis.call('ZSCORE', set, id) then
    return
  end
  if #places(id, task[2]) == 0 then
    doubtful[#doubtful + 1] = id
  end
end

local function look_at_group(name, key)
  if redis.call('TYPE', key).ok ~= 'zset' or redis.call('ZSCORE', KEYS[9], key)
    or redis.call('SISMEMBER', KEYS[8], name) == 1 then
    return
  end
  redis.call('ZREM', KEYS[3], '')
  if is_set(name, key) then
    redis.call('ZADD', KEYS[9], ARGV[2], key)
    relisted[#relisted + 1] = key
  else
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

local page = redis.call('SCAN', ARGV[4], 'MATCH', ARGV[3], 'COUNT', ARGV[5])
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
return { page[1], doubtful, regrouped, relisted, unlocked }
