-- include: quarantine of unusable tasks, as they were found. The caller first removes the id from its
-- container.

-- Renames the task key to x:quarantine:<id> and lists the id in x:quarantine. Without a key there is nothing to
-- keep. Data of the same id that are there stay: those that come later are x:quarantine:<id>@<now>.
local function put_aside(prefix, id, now)
  local key = prefix .. 't:' .. id
  if redis.call('EXISTS', key) == 1 then
    local name = id
    if redis.call('RENAMENX', key, prefix .. 'x:quarantine:' .. id) == 0 then
      name = id .. '@' .. now
      redis.call('RENAME', key, prefix .. 'x:quarantine:' .. name)
    end
    redis.pcall('ZADD', prefix .. 'x:quarantine', now, name)
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
