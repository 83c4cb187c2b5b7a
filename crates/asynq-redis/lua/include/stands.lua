-- include: a quick check of the container of a task. Needs places.lua, ARGV 1 queue prefix
--
-- A long `pending` is not searched: there, a task is suspected only if it should have run before the tasks at the tail.

local function is_in(set, id)
  return type(redis.pcall('ZSCORE', set, id)) == 'string'
end

-- Whether an id waits in its group or in one of the group's sets; nil if some sets were not checked.
local looks = 0
local function is_grouped(id, group)
  local key = ARGV[1] .. 'g:' .. group
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
  search(KEYS[2], id)
  local times = in_list(KEYS[2], id)
  return times and times > 0
end

-- The time since which the longest waiting of some tasks is pending. The sample takes tasks at the tail and
-- ever fewer behind them, because a server that stopped may have put many tasks back in front. Nil if none of
-- them has the time.
local oldest = nil
local function waits_longest()
  if oldest == nil then
    oldest = false
    local length, step, at = redis.pcall('LLEN', KEYS[1]), 1, 1
    while type(length) == 'number' and at <= length do
      local id = redis.call('LINDEX', KEYS[1], -at)
      local since = id and tonumber(redis.pcall('HGET', ARGV[1] .. 't:' .. id, 'pending_since') or '')
      if since and (not oldest or since < oldest) then
        oldest = since
      end
      step = at < 20 and 1 or at
      at = at + step
    end
  end
  return oldest
end

local function is_pending(id, since, overtaken)
  local times = in_list(KEYS[1], id)
  if times then
    return times > 0
  end
  local first = waits_longest()
  if not first or (tonumber(since) and tonumber(since) >= first - overtaken) then
    return nil
  end
  -- Go's servers put a task back at the tail without writing the time.
  if passed + 1000 <= MOST_PASSED then
    passed = passed + 1000
    return redis.call('LPOS', KEYS[1], id, 'RANK', -1, 'MAXLEN', 1000) and true or false
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
  return is_active(id) or (in_list(KEYS[1], id) or 0) > 0
end

-- Whether a task is where its state says; nil if that is not known. `overtaken`: how much longer than the tasks next to
-- run a task waits before it is doubted, in ns.
local function stands_there(id, state, group, since, overtaken)
  if SET_OF[state] then
    return is_in(SET_OF[state], id)
  elseif state == 'active' then
    return is_active(id)
  elseif state == 'pending' then
    return is_pending(id, since, overtaken)
  elseif group ~= '' then
    return is_grouped(id, group)
  else
    return is_anywhere(id)
  end
end
