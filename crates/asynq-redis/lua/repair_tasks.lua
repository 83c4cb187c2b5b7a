-- repair_tasks: looks at tasks again and repairs their breaches of layout.md#invariants, each task in one step. A task
-- that is well by now does not change.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 `1` to write, `0` to tell what would be done,
--       5 number of groups and aggregation sets in which breaches were seen, then their keys, then for each task:
--       id, look, container, message
--       looks: id  the id may have no usable task; `container` has it, if not '', and `message`, if not '', does not decode
--              fields  lease and pending_since may not fit the state
--              places  any breach
-- returns {how many of the tasks were looked at, for each of them: what was done, a detail ...}
--       gone; id removed; quarantined; listed, state; state set, state; kept once, state; lease added; lease removed;
--       since set; since removed; left, reason: a key of the wrong type, `deleted`, `sets`, `later`, `changed`
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task stays where its state says. In one other container, it gets the state of the container; but a task that is not
-- completed leaves `completed`, where it would be deleted. In several others, `active` and the ends are left first. In no
-- container, it is listed by its state, due now. Unusable data are quarantined. The first write frees memory. A long list
-- is searched as a whole, by the first task of a call; tasks that would search more are left to the next call.

local prefix, now, nanos, write = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local pending, active, lease = KEYS[1], KEYS[2], KEYS[3]
local n = tonumber(ARGV[5])
local bad = misplaced()
if bad then
  return wrong_type(bad)
end

local STATE_OF = {
  [KEYS[1]] = 'pending', [KEYS[2]] = 'active', [KEYS[4]] = 'scheduled', [KEYS[5]] = 'retry', [KEYS[6]] = 'archived',
  [KEYS[7]] = 'completed',
}
local RANK = { pending = 1, scheduled = 2, retry = 3, aggregating = 4, archived = 5, completed = 6, active = 7 }
local GROUPS = prefix .. 'g:'

local function state_of(place)
  return STATE_OF[place] or 'aggregating'
end

local function is_of_a_set(key)
  return redis.call('ZSCORE', KEYS[9], key) or is_set(string.sub(key, #GROUPS + 1), key)
end

local function is_active(id)
  passed = passed + redis.call('LLEN', active)
  return redis.call('LPOS', active, id) ~= false
end

-- Searches both lists, however long. False if that is left to the next call.
local function search_lists(id)
  for _, list in ipairs(LISTS) do
    local length = redis.call('LLEN', list)
    if length > LONGEST then
      if passed > 0 and passed + length > MOST_PASSED then
        return false
      end
      passed = passed + length
      told[list][id] = #redis.call('LPOS', list, id, 'COUNT', 0)
    end
  end
  return true
end

-- Removes an id from a container; `times` of the entries of a list, those at the head, or all.
local function leave(place, id, times)
  if place == pending or place == active then
    passed = passed + redis.call('LLEN', place)
    redis.call('LREM', place, times or 0, id)
    return
  end
  redis.call('ZREM', place, id)
  if string.sub(place, 1, #GROUPS) == GROUPS and redis.call('EXISTS', place) == 0 then
    redis.call('SREM', KEYS[8], string.sub(place, #GROUPS + 1))
  end
end

local function leave_all(found, id)
  for _, place in ipairs(found) do
    leave(place, id)
  end
  redis.call('ZREM', lease, id)
end

-- The place to keep, of several.
local function choose(found, state, group)
  local best, best_rank
  for _, place in ipairs(found) do
    local of = state_of(place)
    local rank = of == state and 0 or 10 * RANK[of]
    if of == 'aggregating' and not redis.call('ZSCORE', KEYS[9], place) then
      rank = rank + ((group and place == GROUPS .. group) and 1 or 2)
    end
    if not best or rank < best_rank then
      best, best_rank = place, rank
    end
  end
  return best
end

-- Gives a task the state of its container.
local function agree(id, key, place, of)
  if of == 'active' then
    return make_active(id, key, now)
  end
  redis.call('ZREM', lease, id)
  redis.call('HDEL', key, 'pending_since', 'x:take', 'x:adopt', 'x:cancel', 'x:at')
  redis.call('HSET', key, 'state', of)
  if of == 'pending' then
    redis.call('HSET', key, 'pending_since', nanos)
  elseif of == 'aggregating' then
    local name = string.sub(place, #GROUPS + 1)
    if is_of_a_set(place) then
      name = string.match(name, '^(.*):[^:]*$')
    end
    redis.call('HSET', key, 'group', name)
  end
end

-- Lease and pending_since. Returns what was done, or nil.
local function mend_fields(id, key, state)
  local since, leased = redis.call('HEXISTS', key, 'pending_since') == 1, redis.call('ZSCORE', lease, id)
  local done = nil
  if state ~= 'active' and leased then
    done = 'lease removed'
    if write then
      redis.call('ZREM', lease, id)
    end
  elseif state == 'active' and not leased then
    done = 'lease added'
    if write then
      redis.call('ZREM', lease, '')
      redis.call('ZADD', lease, 'NX', now, id)
    end
  end
  if state == 'pending' and not since then
    done = done or 'since set'
    if write then
      redis.call('ZREM', lease, '')
      redis.call('HSET', key, 'pending_since', nanos)
    end
  elseif state ~= 'pending' and since then
    done = done or 'since removed'
    if write then
      redis.call('HDEL', key, 'pending_since')
    end
  end
  return done
end

-- The result is what was done and a detail; nothing if the task is left to the next call.
-- With `is_partial`, groups that the task does not name were not searched.
local function mend_places(id, key, state, group, unusable, is_partial)
  if not search_lists(id) then
    return nil
  end
  local known, others, searched = whereabouts(id, group, 6, n)
  -- A look into a set takes as long as some entries of a list.
  passed = passed + 20 * (#listed_sets() + #finished_sets())
  local found, times, is_there = {}, {}, {}
  for _, places in ipairs({ known, others }) do
    for _, place in ipairs(places) do
      times[place] = (times[place] or 0) + 1
      if times[place] == 1 then
        found[#found + 1] = place
        is_there[state_of(place)] = true
      end
    end
  end
  for _, place in ipairs(found) do
    if string.sub(place, 1, #prefix + 11) == prefix .. 'x:finished:' then
      return 'left', 'deleted'
    end
  end
  if is_partial and #found == 0 then
    return 'left', 'later'
  elseif unusable or (#found == 0 and not STATES[state]) then
    if #found == 0 and not searched then
      return 'left', 'sets'
    elseif write then
      redis.call('ZREM', lease, id)
      leave_all(found, id)
      put_aside(prefix, id, now)
    end
    return 'quarantined', ''
  elseif #found == 0 and not searched then
    return 'left', 'sets'
  elseif group and not holds(GROUPS .. group, 'zset') then
    return 'left', GROUPS .. group
  end

  local done, detail = nil, ''
  local place = choose(found, state, group)
  local of = place and state_of(place)
  if place and (#found > 1 or times[place] > 1) then
    done, detail = 'kept once', of
    if write then
      redis.call('ZREM', lease, '')
      for _, other in ipairs(found) do
        if other ~= place then
          leave(other, id)
        elseif times[other] > 1 then
          leave(other, id, times[other] - 1)
        end
      end
    end
  end
  if not place or (of == 'completed' and STATES[state] and state ~= of) then
    done, detail = 'listed', state
    if state == 'aggregating' and (not group or group == '') then
      detail = 'pending'
    end
    if write then
      if place then
        leave(place, id)
      end
      list_by_state(id, key, state, group, now, nanos)
    end
    state = detail
  elseif of ~= state then
    done, detail = done or 'state set', of
    if write then
      agree(id, key, place, of)
    end
    state = of
  end
  if done and not write then
    return done, detail
  end
  local more = mend_fields(id, key, state)
  if not done then
    return more or 'gone', ''
  end
  return done, detail
end

local function mend_fields_alone(id, key, state, group)
  local listed = state ~= 'active' and not redis.call('ZSCORE', lease, id)
  if not listed then
    -- An active task that is not in `active`, and one in `active` that is not active, are in the wrong place.
    if is_active(id) ~= (state == 'active') then
      return mend_places(id, key, state, group, false, true)
    end
  end
  return mend_fields(id, key, state) or 'gone', ''
end

local function mend(id, look, container, message)
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'group')
  local is_hash = not task.err
  local state, group = is_hash and task[1] or '', is_hash and task[2] or nil
  if redis.call('EXISTS', key) == 0 then
    if look == 'places' or (look == 'id' and container == '') then
      return 'gone', ''
    elseif look == 'fields' then
      if not redis.call('ZSCORE', lease, id) or is_active(id) then
        return 'gone', ''
      elseif write then
        redis.call('ZREM', lease, id)
      end
      return 'lease removed', ''
    end
    local is_list = container == pending or container == active
    if not is_list and not holds(container, 'zset') then
      return 'left', container
    end
    local place = is_list and redis.call('LPOS', container, id) or not is_list and redis.call('ZSCORE', container, id)
    if not place then
      return 'gone', ''
    end
    if is_list then
      passed = passed + 2 * place
    end
    if write then
      if is_list then
        redis.call('LREM', container, 1, id)
      else
        leave(container, id)
      end
      if container == active and not is_active(id) then
        redis.call('ZREM', lease, id)
      end
    end
    return 'id removed', ''
  end
  local has_message = is_hash and redis.call('HEXISTS', key, 'msg') == 1
  if not has_message then
    return mend_places(id, key, state, group, true)
  elseif look == 'id' then
    if message == '' then
      return 'gone', ''
    elseif redis.call('HGET', key, 'msg') ~= message then
      return 'left', 'changed'
    end
    return mend_places(id, key, state, group, true)
  elseif look == 'fields' and STATES[state] then
    return mend_fields_alone(id, key, state, group)
  end
  return mend_places(id, key, state, group)
end

local reply = { 0 }
for i = 6 + n, #ARGV, 4 do
  if passed > MOST_PASSED then
    break
  end
  local done, detail = mend(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  if not done then
    break
  end
  reply[1] = reply[1] + 1
  reply[#reply + 1] = done
  reply[#reply + 1] = detail
end
return reply
