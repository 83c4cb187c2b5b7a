-- include: repairs of the indexes of groups and sets, and of locks. Needs places.lua, set_name.lua

-- Adds a group or set that is in no index to its own. `ends`: when a set that is listed again is handed back.
-- Returns 'group+', 'set+', or nil if it is in an index or is not a sorted set. Without `write` nothing changes.
local function index_gathered(name, key, ends, write)
  if redis.call('TYPE', key).ok ~= 'zset' or redis.call('ZSCORE', KEYS[9], key)
    or redis.call('SISMEMBER', KEYS[8], name) == 1 then
    return nil
  end
  local set = is_set(name, key)
  if write then
    redis.call('ZREM', KEYS[3], '')
    if set then
      redis.call('ZADD', KEYS[9], ends, key)
    else
      redis.call('SADD', KEYS[8], name)
    end
  end
  return set and 'set+' or 'group+'
end

-- Removes a lock whose owner has no task. Returns whether there was such a lock.
local function remove_ownerless(key, write)
  local id = redis.pcall('GET', key)
  if type(id) ~= 'string' or redis.call('EXISTS', ARGV[1] .. 't:' .. id) == 1 then
    return false
  end
  if write then
    redis.call('DEL', key)
  end
  return true
end
