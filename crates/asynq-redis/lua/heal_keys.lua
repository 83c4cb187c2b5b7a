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

local prefix = ARGV[1]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end
local doubtful, regrouped, relisted, unlocked = {}, {}, {}, {}

local function look_at_task(id, key)
  local task = redis.pcall('HMGET', key, 'state', 'group', 'pending_since')
  if task.err then
    task = {}
  end
  local state, group, since = task[1] or '', task[2] or '', task[3] or ''
  local stands = stands_there(id, state, group, since, tonumber(ARGV[6]))
  if stands == false then
    local n = #doubtful
    doubtful[n + 1], doubtful[n + 2], doubtful[n + 3] = id, state, since
  end
end

local function look_at_group(name, key)
  local added = index_gathered(name, key, ARGV[2], true)
  if added == 'set+' then
    relisted[#relisted + 1] = key
  elseif added then
    regrouped[#regrouped + 1] = name
  end
end

local function look_at_lock(key)
  if remove_ownerless(key, true) then
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
