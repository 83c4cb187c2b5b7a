-- announce: adds a name to one of the indexes asynq:servers, asynq:workers, asynq:schedulers, asynq:x:trees
-- (transitions.md#publish-a-server to transitions.md#publish-a-scheduler), and removes expired names.
--
-- KEYS  1 index
-- ARGV  1 name, 2 when it ends in s, 3 now in s
-- returns status OK
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A server must also be visible when Redis is full, so the first write frees memory. It is the write by which
-- Go's readers remove expired names (transitions.md#servers-and-workers). Without such a reader, this script
-- removes them.

local bad = misfit({ KEYS[1], 'zset' })
if bad then
  return wrong_type(bad)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return redis.status_reply('OK')
