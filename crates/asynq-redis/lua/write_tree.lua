-- write_tree: publishes the supervision tree of a server.
--
-- KEYS  1 tree
-- ARGV  1 time to live in s, 2 the tree as JSON
-- returns status OK
--
-- The first write frees memory, as in announce.lua.

redis.call('DEL', KEYS[1])
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
return redis.status_reply('OK')
