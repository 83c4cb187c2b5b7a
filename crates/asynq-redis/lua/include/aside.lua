-- include: quarantine of unusable tasks, as they were found. The caller first removes the id from its
-- container.

-- Renames the task key to x:quarantine:<id> and lists the id in x:quarantine. Without a key there is nothing to
-- keep.
local function put_aside(prefix, id, now)
  local key = prefix .. 't:' .. id
  if redis.call('EXISTS', key) == 1 then
    redis.call('RENAME', key, prefix .. 'x:quarantine:' .. id)
    redis.pcall('ZADD', prefix .. 'x:quarantine', now, id)
  end
end

-- The damage of a task key whose message could not be read: n no key, h not a hash, m no message.
local function damage(key)
  local found = redis.call('TYPE', key).ok
  if found == 'none' then
    return 'n'
  elseif found ~= 'hash' then
    return 'h'
  end
  return 'm'
end
