-- groups: the groups of a queue that have tasks waiting, a part in each call (A.19, B.7). Reads only.
--
-- KEYS  1 groups
-- ARGV  1 queue prefix, 2 cursor ('0' at first), 3 about how many
-- returns {cursor to go on at ('0': done), groups: name, number of tasks ...}; a name may come twice
--       or {WRONGTYPE, key}: refused

local bad = misfit({ KEYS[1], 'set' })
if bad then
  return wrong_type(bad)
end
local page = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local found = {}
for _, group in ipairs(page[2]) do
  local size = redis.pcall('ZCARD', ARGV[1] .. 'g:' .. group)
  if type(size) == 'number' and size > 0 then
    found[#found + 1] = group
    found[#found + 1] = size
  end
end
return { page[1], found }
