-- write_tree: publishes the supervision tree of a server.
--
-- KEYS  1 tree; outside of a cluster also 2 index of trees
-- ARGV  1 time to live in s, 2 when it ends in s, 3 now in s, 4 the tree as JSON
-- returns status OK
--       or {WRONGTYPE, key}: that index was left alone, the tree was written
--
-- The first write frees memory, as in the include index.lua.

local listed = not KEYS[2] or announce(KEYS[2], KEYS[1], ARGV[2], ARGV[3])
redis.call('DEL', KEYS[1])
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[4])
return listed and redis.status_reply('OK') or wrong_type(KEYS[2])
