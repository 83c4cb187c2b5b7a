-- audit_leases: finds leases without an active task, a part in each call. Reads only.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 and 3 place at which to go on: see include/resume.lua ('' at first), 4 most leases
-- returns {1 done else 0, place at which to go on: two texts, number of leases looked at, ids ...}

local most = tonumber(ARGV[4])
if redis.call('TYPE', KEYS[3]).ok ~= 'zset' then
  return { 1, '', '', 0 }
end
local start = rank_behind(KEYS[3], ARGV[2], ARGV[3])
local ids = redis.call('ZRANGE', KEYS[3], start, start + most - 1, 'WITHSCORES')
local reply = { 1, '', '', #ids / 2 }
if #ids == 2 * most then
  reply[1], reply[2], reply[3] = 0, ids[#ids], ids[#ids - 1]
end
for i = 1, #ids, 2 do
  local id = ids[i]
  local times = in_list(KEYS[2], id)
  if times == 0 or (times == nil and redis.pcall('HGET', ARGV[1] .. 't:' .. id, 'state') ~= 'active') then
    reply[#reply + 1] = id
  end
end
return reply
