-- audit_places: finds the containers of ids, among all containers of the queue. Reads only.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 number of groups and aggregation sets, then their keys, then for each task: id, state and
--       pending_since as they were seen, and how often the id stood in `pending` since then ('' if that is not known)
-- returns for each id: its state ('' if there is none), 1 if it has a key and could be searched for
--       everywhere else 0, containers that its hash leads to, groups and sets beyond those

local n = tonumber(ARGV[2])
local reply = {}
for i = 3 + n, #ARGV, 4 do
  local id = ARGV[i]
  local key = ARGV[1] .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'group', 'pending_since')
  if task.err then
    task = {}
  end
  local state, group = task[1] or '', task[2] or nil
  if is_long(KEYS[1]) and is_as_seen(id, task, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) then
    told[KEYS[1]][id] = tonumber(ARGV[i + 3])
  end
  search(KEYS[2], id)
  local known, others, searched = whereabouts(id, group, 3, n)
  local at = #reply
  reply[at + 1] = state
  reply[at + 2] = (searched and redis.call('EXISTS', key) == 1) and 1 or 0
  reply[at + 3], reply[at + 4] = known, others
end
return reply
