-- groups: lists the groups of a queue that have waiting tasks (transitions.md#list-groups,
-- transitions.md#groups-of-a-queue), and its aggregation sets, a part of each in each call. Reads only.
--
-- KEYS  1 groups, 2 aggregation_sets
-- ARGV  1 queue prefix, 2 cursor in the groups, 3 cursor in the sets ('0' at first; '': none of them),
--       4 about how many of each
-- returns {cursor in the groups to go on at ('0': done), the same in the sets,
--       groups: name, number of tasks ..., sets: key, number of tasks ...}; a name may come twice
--       or {WRONGTYPE, key}: refused

local bad = misfit({ KEYS[1], 'set' }) or ARGV[3] ~= '' and misfit({ KEYS[2], 'zset' })
if bad then
  return wrong_type(bad)
end
local start, groups, sets = ARGV[1] .. 'g:', {}, {}

local function count(key, name, found)
  local size = redis.pcall('ZCARD', key)
  if type(size) == 'number' and size > 0 then
    found[#found + 1] = name
    found[#found + 1] = size
  end
end

local next_group, next_set = '0', '0'
if ARGV[2] ~= '' then
  local page = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[4])
  next_group = page[1]
  for _, group in ipairs(page[2]) do
    count(start .. group, group, groups)
  end
end
if ARGV[3] ~= '' then
  local page = redis.call('ZSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
  next_set = page[1]
  for i = 1, #page[2], 2 do
    local set = page[2][i]
    if string.sub(set, 1, #start) == start then
      count(set, set, sets)
    end
  end
end
return { next_group, next_set, groups, sets }
