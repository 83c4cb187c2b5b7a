-- announce: puts a name into one of the indexes asynq:servers, asynq:workers, asynq:schedulers, asynq:x:trees
-- (transitions.md#publish-a-server to transitions.md#publish-a-scheduler), and takes names out that ended.
--
-- KEYS  1 index
-- ARGV  1 name, 2 when it ends in s, 3 now in s
-- returns status OK
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A server must be seen when Redis is full as well: the first write frees. It is the one by which Go's
-- readers clean up (transitions.md#servers-and-workers); a fleet without any does it here.

local bad = misfit({ KEYS[1], 'zset' })
if bad then
  return wrong_type(bad)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return redis.status_reply('OK')
