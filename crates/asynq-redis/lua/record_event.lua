-- record_event: adds an event to the history of a scheduler entry (transitions.md#publish-a-scheduler).
--
-- KEYS  1 history
-- ARGV  1 time of the event in s, 2 SchedulerEnqueueEvent, 3 limit (one less is kept, then one added)
-- returns status OK
--       or {WRONGTYPE, key}: refused, nothing was written

local bad = misfit({ KEYS[1], 'zset' })
if bad then
  return wrong_type(bad)
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[3]))
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
return redis.status_reply('OK')
