-- relist: searches all containers for tasks, and puts each task that is missing in the container of its state
-- there, once (rules.md#extensions-revive-nothing, rules.md#one-state).
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 number of groups and aggregation sets, then their
--       keys, then for each task, once: id, state and pending_since as they were seen, and how often
--       the id stood in `pending` since then as search_list.lua found ('' if that is not known)
-- returns {how many of the tasks were looked at, ids put where their state says, unusable: id, kind ...}
--       kinds: h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task without a container goes into the container of its state. If its time is not known any more, it is due
-- now, and an active task gets a lease that ends now. A task that is only in `active` but has another state
-- becomes active. A task that is in `active` and in another container leaves `active`.
--
-- A `pending` that is too long to be searched here was searched before, in parts: see include/seen.lua. A task that
-- could not be searched for does not change.

local prefix, now = ARGV[1], ARGV[2]
local active, lease = KEYS[2], KEYS[3]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end
local relisted, aside = {}, {}

local function leave_or_enter_active(id, key, alone)
  if alone then
    make_active(id, key, now)
  else
    redis.call('LREM', active, -1, id)
    redis.call('ZREM', lease, id)
  end
  relisted[#relisted + 1] = id
end

local n = tonumber(ARGV[4])
local looked, length = 0, redis.call('LLEN', active)
for i = 5 + n, #ARGV, 4 do
  local id = ARGV[i]
  -- Costs at most two walks through `active`.
  if passed + 2 * length > MOST_PASSED and looked > 0 then
    break
  end
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'group', 'pending_since')
  local kind = nil
  if task.err then
    kind, task = 'h', {}
  elseif redis.call('HEXISTS', key, 'msg') == 0 then
    kind = 'm'
  elseif not STATES[task[1]] then
    kind = 's'
  end
  local state, group = task[1], task[2] or nil
  if is_long(KEYS[1]) and is_as_seen(id, task, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) then
    told[KEYS[1]][id] = tonumber(ARGV[i + 3])
  end
  search(active, id)
  if redis.call('EXISTS', key) == 1 and (not group or holds(prefix .. 'g:' .. group, 'zset')) then
    local known, others, searched = whereabouts(id, group, 5, n)
    if searched and #known + #others == 0 then
      if kind then
        redis.call('ZREM', lease, id)
        put_aside(prefix, id, now)
        aside[#aside + 1] = id
        aside[#aside + 1] = kind
      else
        list_by_state(id, key, state, group, now, ARGV[3])
        relisted[#relisted + 1] = id
      end
    elseif searched and not kind and state ~= 'active' and in_list(active, id) > 0 then
      leave_or_enter_active(id, key, #known + #others == 1)
      passed = passed + length
    end
  end
  looked = looked + 1
end
return { looked, relisted, aside }
