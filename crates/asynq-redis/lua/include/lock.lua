-- include: unique locks.

-- Deletes a lock if it is a lock of this queue and still holds the id.
local function free_lock(prefix, lock, id)
  if not lock or lock == '' then
    return
  end
  local start = prefix .. 'unique:'
  if string.sub(lock, 1, #start) == start and redis.pcall('GET', lock) == id then
    redis.call('DEL', lock)
  end
end
