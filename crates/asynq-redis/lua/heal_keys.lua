-- heal_keys: checks the keys of a queue, a part in each call. Adds missing groups to the index
-- (differences.md#groups-handed-back, differences.md#groups-of-forwarded-tasks), lists missing aggregation sets
-- again, and removes locks without an owner (rules.md#extensions-revive-nothing).
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 when a set that is listed again is handed back in s,
--       3 pattern of the queue's keys, 4 cursor of SCAN, 5 about how many keys of the database to look at,
--       6 how much longer than the tasks next to run another one waits before it is doubted, in ns
-- returns {cursor to go on at ('0': from the start),
--       tasks that may stand in no container: id, state, pending_since ...,
--       groups put into the index, sets listed again, locks removed}
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- relist.lua handles tasks that may be in no container. A task is suspected if it was searched for and not
-- found. A long `pending` is not searched: there, a task is suspected if it should have run before the tasks at
-- the tail. A later call checks the tasks that this call does not reach.

local prefix, pending, active = ARGV[1], KEYS[1], KEYS[2]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end
local doubtful, regrouped, relisted, unlocked = {}, {}, {}, {}

local function is_in(set, id)
  return type(redis.pcall('ZSCORE', set, id)) == 'string'
end

-- Whether an id waits in its group or in one of the group's sets; nil if some sets were not checked.
local looks = 0
local function is_grouped(id, group)
  local key = prefix .. 'g:' .. group
  if is_in(key, id) then
    return true
  end
  for _, set in ipairs(sets_of(key)) do
    looks = looks + 1
    if looks > 2000 then
      return nil
    elseif is_in(set, id) then
      return true
    end
  end
  for _, set in ipairs(finished_sets()) do
    looks = looks + 1
    if looks > 2000 then
      return nil
    elseif is_in(set, id) then
      return true
    end
  end
  if #listed_sets() >= MOST_SETS or #finished_sets() >= MOST_SETS then
    return nil
  end
  return false
end

local function is_active(id)
  if is_in(KEYS[3], id) then
    return true
  end
  search(active, id)
  local times = in_list(active, id)
  return times and times > 0
end

-- The time since which the longest waiting of some tasks is pending. The sample takes tasks at the tail and
-- ever fewer behind them, because a server that stopped may have put many tasks back in front. Nil if none of
-- them has the time.
local oldest = nil
local function waits_longest()
  if oldest == nil then
    oldest = false
    local length, step, at = redis.call('LLEN', pending), 1, 1
    while at <= length do
      local id = redis.call('LINDEX', pending, -at)
      local since = id and tonumber(redis.pcall('HGET', prefix .. 't:' .. id, 'pending_since') or '')
      if since and (not oldest or since < oldest) then
        oldest = since
      end
      step = at < 20 and 1 or at
      at = at + step
    end
  end
  return oldest
end

local function is_pending(id, since)
  local times = in_list(pending, id)
  if times then
    return times > 0
  end
  local first = waits_longest()
  if not first or (tonumber(since) and tonumber(since) >= first - tonumber(ARGV[6])) then
    return nil
  end
  -- Go's servers put a task back at the tail without writing the time.
  if passed + 1000 <= MOST_PASSED then
    passed = passed + 1000
    return redis.call('LPOS', pending, id, 'RANK', -1, 'MAXLEN', 1000) and true or false
  end
  return nil
end

-- Whether a task of unknown state is in a container.
local function is_anywhere(id)
  for _, set in ipairs(SETS) do
    if is_in(set, id) then
      return true
    end
  end
  return is_active(id) or (in_list(pending, id) or 0) > 0
end

local function look_at_task(id, key)
  local task = redis.pcall('HMGET', key, 'state', 'group', 'pending_since')
  if task.err then
    task = {}
  end
  local state, group, since = task[1] or '', task[2] or '', task[3] or ''
  local stands
  if SET_OF[state] then
    stands = is_in(SET_OF[state], id)
  elseif state == 'active' then
    stands = is_active(id)
  elseif state == 'pending' then
    stands = is_pending(id, since)
  elseif group ~= '' then
    stands = is_grouped(id, group)
  else
    stands = is_anywhere(id)
  end
  if stands == false then
    local n = #doubtful
    doubtful[n + 1], doubtful[n + 2], doubtful[n + 3] = id, state, since
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
    -- A page of SCAN can contain a key twice.
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
