-- include: the indexes asynq:servers, asynq:workers, asynq:schedulers and asynq:x:trees
-- (transitions.md#publish-a-server to transitions.md#publish-a-scheduler).

-- Adds a name that ends at a time in s to an index, and removes the names that have ended. Returns false, and
-- writes nothing, if the index has another type.
--
-- A server must also be visible when Redis is full, so the first write frees memory. It is the write by which
-- Go's readers remove expired names (transitions.md#servers-and-workers). Without such a reader, this removes them.
local function announce(index, name, ends, now)
  if not holds(index, 'zset') then
    return false
  end
  redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. now)
  redis.call('ZADD', index, ends, name)
  return true
end
