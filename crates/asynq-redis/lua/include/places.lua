-- include: the containers of an id. Needs KEYS by name:
--   1 pending, 2 active, 3 lease, 4 scheduled, 5 retry, 6 archived, 7 completed, 8 groups,
--   9 aggregation_sets, 10 x:finished; ARGV 1 queue prefix

local LISTS = { KEYS[1], KEYS[2] }
local SETS = { KEYS[4], KEYS[5], KEYS[6], KEYS[7] }
local SET_OF = { scheduled = KEYS[4], retry = KEYS[5], archived = KEYS[6], completed = KEYS[7] }
local STATES = {
  active = true, pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}
-- Longer lists are not read as a whole, because that takes more than half a millisecond.
local LONGEST = 1000
-- The number of entries that all searches of one call pass at most.
local MOST_PASSED = 50000
local seen, told, passed = {}, { [KEYS[1]] = {}, [KEYS[2]] = {} }, 0
-- The number of aggregation sets that were checked by their groups.
local sets_seen = 0

-- Whether a list is too long to be read as a whole.
local function is_long(list)
  local length = redis.pcall('LLEN', list)
  return type(length) == 'number' and length > LONGEST
end

-- Searches a long list for one id and keeps the result for `in_list`, unless the call has passed too many
-- entries.
local function search(list, id)
  local length = redis.pcall('LLEN', list)
  if type(length) == 'number' and length > LONGEST and passed + length <= MOST_PASSED then
    passed = passed + length
    told[list][id] = #redis.call('LPOS', list, id, 'COUNT', 0)
  end
end

-- The number of times that an id is in a list; nil if the list was not searched for the id.
local function in_list(list, id)
  if told[list][id] then
    return told[list][id]
  end
  if seen[list] == nil then
    local length, ids = redis.pcall('LLEN', list), {}
    if type(length) ~= 'number' or length > LONGEST then
      ids = false
    else
      for _, of in ipairs(redis.call('LRANGE', list, 0, -1)) do
        ids[of] = (ids[of] or 0) + 1
      end
    end
    seen[list] = ids
  end
  if not seen[list] then
    return nil
  end
  return seen[list][id] or 0
end

-- The first container that holds another type than that of the layout, or nil.
local function misplaced()
  return misfit({
    KEYS[1], 'list', KEYS[2], 'list', KEYS[3], 'zset', KEYS[4], 'zset', KEYS[5], 'zset', KEYS[6], 'zset',
    KEYS[7], 'zset', KEYS[8], 'set', KEYS[9], 'zset',
  })
end

-- The keys of the listed aggregation sets, the first thousand.
local MOST_SETS = 1000
local function listed_sets()
  if seen[KEYS[9]] == nil then
    local sets = redis.pcall('ZRANGE', KEYS[9], 0, MOST_SETS - 1)
    seen[KEYS[9]] = sets.err and {} or sets
  end
  return seen[KEYS[9]]
end

-- The listed sets of a group, by the group's key: the part of a set's key before the last colon.
local by_group = nil
local function sets_of(key)
  if not by_group then
    by_group = {}
    for _, set in ipairs(listed_sets()) do
      local of = string.match(set, '^(.*):[^:]*$') or ''
      by_group[of] = by_group[of] or {}
      table.insert(by_group[of], set)
    end
  end
  return by_group[key] or {}
end

-- The keys of the sets whose tasks are being deleted, the first thousand.
local function finished_sets()
  if seen[KEYS[10]] == nil then
    local sets = redis.pcall('ZRANGE', KEYS[10], 0, MOST_SETS - 1)
    seen[KEYS[10]] = sets.err and {} or sets
  end
  return seen[KEYS[10]]
end

-- The keys of all containers of an id, in order, a key twice if the id is in it twice; and whether both lists
-- could be searched. Among groups and sets, only those of `group` are checked, the group in the hash of the
-- task; see whereabouts. At most `most_sets` sets are checked, if that is given.
local function places(id, group, most_sets)
  local found, searched = {}, true
  for _, list in ipairs(LISTS) do
    local times = in_list(list, id)
    searched = searched and times ~= nil
    for _ = 1, times or 0 do
      found[#found + 1] = list
    end
  end
  for _, set in ipairs(SETS) do
    if type(redis.pcall('ZSCORE', set, id)) == 'string' then
      found[#found + 1] = set
    end
  end
  for _, set in ipairs(finished_sets()) do
    if type(redis.pcall('ZSCORE', set, id)) == 'string' then
      found[#found + 1] = set
    end
  end
  searched = searched and #finished_sets() < MOST_SETS
  if group and group ~= '' then
    local key = ARGV[1] .. 'g:' .. group
    if type(redis.pcall('ZSCORE', key, id)) == 'string' then
      found[#found + 1] = key
    end
    local of_group = sets_of(key)
    for i = 1, math.min(#of_group, most_sets or #of_group) do
      local set = of_group[i]
      sets_seen = sets_seen + 1
      if type(redis.pcall('ZSCORE', set, id)) == 'string' then
        found[#found + 1] = set
      end
    end
  end
  return found, searched
end

-- The result of places, and all other groups and sets that contain the id: among the `n` keys from ARGV[first]
-- on, which the caller has found by SCAN, and the sets that were listed since.
local function whereabouts(id, group, first, n)
  local known, searched = places(id, group)
  if group and group ~= '' and #listed_sets() >= MOST_SETS then
    searched = false
  end
  local others, looked = {}, {}
  for _, place in ipairs(known) do
    looked[place] = true
  end
  local function look(key)
    if not looked[key] then
      looked[key] = true
      if type(redis.pcall('ZSCORE', key, id)) == 'string' then
        others[#others + 1] = key
      end
    end
  end
  for i = first, first + n - 1 do
    look(ARGV[i])
  end
  for _, set in ipairs(listed_sets()) do
    look(set)
  end
  return known, others, searched
end
