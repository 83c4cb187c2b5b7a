-- search_groups: finds the groups and aggregation sets that contain any of some ids. Reads only.
--
-- KEYS  1 groups, for the queue's slot alone
-- ARGV  1 number of groups and sets, then their keys, then the ids
-- returns the keys that hold one

local n = tonumber(ARGV[1])
local ids = { unpack(ARGV, 2 + n) }
local found = {}
for i = 2, 1 + n do
  local scores = redis.pcall('ZMSCORE', ARGV[i], unpack(ids))
  if not scores.err then
    for j = 1, #ids do
      if scores[j] then
        found[#found + 1] = ARGV[i]
        break
      end
    end
  end
end
return found
