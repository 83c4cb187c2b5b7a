-- include: where an id stands. Needs KEYS by name:
--   1 pending, 2 active, 3 lease, 4 scheduled, 5 retry, 6 archived, 7 completed, 8 groups,
--   9 aggregation_sets; ARGV 1 queue prefix

local LISTS = { KEYS[1], KEYS[2] }
local SETS = { KEYS[4], KEYS[5], KEYS[6], KEYS[7] }
local SET_OF = { scheduled = KEYS[4], retry = KEYS[5], archived = KEYS[6], completed = KEYS[7] }
local STATES = {
  active = true, pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}
-- Longer lists are not searched (SAFETY rule 7).
local LONGEST = 10000
local seen = {}

-- How often an id stands in a list; nil if the list is too long to be searched.
local function in_list(list, id)
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

-- The first container that holds another type than the layout says, or nil.
local function misplaced()
  return misfit({
    KEYS[1], 'list', KEYS[2], 'list', KEYS[3], 'zset', KEYS[4], 'zset', KEYS[5], 'zset', KEYS[6], 'zset',
    KEYS[7], 'zset', KEYS[8], 'set', KEYS[9], 'zset',
  })
end

-- The keys of all containers that an id stands in, in order, twice if it stands there twice, and
-- whether all could be searched. `group` is the group in its hash.
local function places(id, group)
  local found, all = {}, true
  for _, list in ipairs(LISTS) do
    local times = in_list(list, id)
    all = all and times ~= nil
    for _ = 1, times or 0 do
      found[#found + 1] = list
    end
  end
  for _, set in ipairs(SETS) do
    if type(redis.pcall('ZSCORE', set, id)) == 'string' then
      found[#found + 1] = set
    end
  end
  if group and group ~= '' then
    local key = ARGV[1] .. 'g:' .. group
    if seen[KEYS[9]] == nil then
      seen[KEYS[9]] = redis.pcall('ZRANGE', KEYS[9], 0, 999)
      table.sort(seen[KEYS[9]])
    end
    all = all and not seen[KEYS[9]].err and #seen[KEYS[9]] < 1000
    local of_group = { key }
    for _, set in ipairs(seen[KEYS[9]]) do
      if set ~= key and string.sub(set, 1, #key + 1) == key .. ':' then
        of_group[#of_group + 1] = set
      end
    end
    for _, set in ipairs(of_group) do
      if type(redis.pcall('ZSCORE', set, id)) == 'string' then
        found[#found + 1] = set
      end
    end
  end
  return found, all
end
