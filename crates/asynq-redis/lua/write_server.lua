-- write_server: publishes a server and its workers (transitions.md#publish-a-server).
--
-- KEYS  1 server, 2 its workers; outside of a cluster also 3 index of servers, 4 index of workers
-- ARGV  1 time to live in s, 2 when they end in s, 3 now in s, 4 ServerInfo, then for each worker: field, WorkerInfo
-- returns status OK
--       or {WRONGTYPE, key}: that index was left alone, all else was written
--
-- The first write frees memory, as in the include index.lua.

local bad
for i = 3, #KEYS do
  if not announce(KEYS[i], KEYS[i - 2], ARGV[2], ARGV[3]) then
    bad = bad or KEYS[i]
  end
end
redis.call('DEL', KEYS[2])
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[4])
local workers = {}
for i = 5, #ARGV do
  workers[#workers + 1] = ARGV[i]
end
call_each('HSET', KEYS[2], workers)
redis.call('EXPIRE', KEYS[2], ARGV[1])
return bad and wrong_type(bad) or redis.status_reply('OK')
