-- write_server: publishes a server and its workers (transitions.md#publish-a-server, third step).
--
-- KEYS  1 server, 2 its workers
-- ARGV  1 time to live in s, 2 ServerInfo, then for each worker: field, WorkerInfo
-- returns status OK
--
-- The first write frees memory, as in announce.lua.

redis.call('DEL', KEYS[2])
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
local workers = {}
for i = 3, #ARGV do
  workers[#workers + 1] = ARGV[i]
end
call_each('HSET', KEYS[2], workers)
redis.call('EXPIRE', KEYS[2], ARGV[1])
return redis.status_reply('OK')
