-- audit_leases: finds leases without an active task, a part in each call. Reads only.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 rank to begin at, 3 most leases
-- returns {rank to go on at (-1: done), ids ...}

local start, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = redis.pcall('ZRANGE', KEYS[3], start, start + most - 1)
if ids.err then
  return { -1 }
end
local reply = { #ids < most and -1 or start + most }
for _, id in ipairs(ids) do
  local times = in_list(KEYS[2], id)
  if times == 0 or (times == nil and redis.pcall('HGET', ARGV[1] .. 't:' .. id, 'state') ~= 'active') then
    reply[#reply + 1] = id
  end
end
return reply
