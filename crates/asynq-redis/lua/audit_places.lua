-- audit_places: finds the containers of ids, among all containers of the queue. Reads only.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 number of groups and aggregation sets, then their keys, then the ids
-- returns for each id: its state ('' if there is none), 1 if it has a key and could be searched for
--       everywhere else 0, containers that its hash leads to, groups and sets beyond those

local n = tonumber(ARGV[2])
local reply = {}
for i = 3 + n, #ARGV do
  local id = ARGV[i]
  local key = ARGV[1] .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'group')
  local state, group = '', false
  if not task.err then
    state, group = task[1] or '', task[2]
  end
  local known, others, searched = whereabouts(id, group, 3, n)
  local at = #reply
  reply[at + 1] = state
  reply[at + 2] = (searched and redis.call('EXISTS', key) == 1) and 1 or 0
  reply[at + 3], reply[at + 4] = known, others
end
return reply
