-- announce: adds a name to an index, and removes expired names. Serves schedulers; in a cluster, where the indexes and
-- the records have different slots, also servers and trees.
--
-- KEYS  1 index
-- ARGV  1 name, 2 when it ends in s, 3 now in s
-- returns status OK
--       or {WRONGTYPE, key}: refused, nothing was written

if not announce(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
  return wrong_type(KEYS[1])
end
return redis.status_reply('OK')
