-- list_tasks: reads a part of a container with its tasks (transitions.md#list-tasks). Reads only.
--
-- KEYS  1 container, 2 lease
-- ARGV  1 queue prefix, 2 list (counted from the tail) or zset, 3 first, 4 most ids, 5 most bytes of
--       messages, results and progress (the first excepted)
-- returns {1 if the bound of bytes cut it short else 0, then nine values for each id: include/listed.lua}
--       or {WRONGTYPE, key}: refused

local first, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local bad = misfit({ KEYS[1], ARGV[2] })
if bad then
  return wrong_type(bad)
end
local entries = {}
if ARGV[2] == 'list' then
  local ids = redis.call('LRANGE', KEYS[1], -(first + most), -(first + 1))
  for i = #ids, 1, -1 do
    entries[#entries + 1] = ids[i]
    entries[#entries + 1] = ''
  end
else
  entries = redis.call('ZRANGE', KEYS[1], first, first + most - 1, 'WITHSCORES')
end
local reply = { 0 }
if 2 * read_tasks(reply, ARGV[1], KEYS[2], entries, tonumber(ARGV[5]), false) < #entries then
  reply[1] = 1
end
return reply
