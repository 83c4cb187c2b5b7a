-- memory_usage: about how many bytes the tasks of a queue take (B.3). Reads only.
--
-- KEYS  1 pending, 2 active, 3 scheduled, 4 retry, 5 archived, 6 completed, 7 groups
-- ARGV  1 queue prefix, 2 tasks to sample of each container, 3 groups to sample
-- returns bytes, or '' if the server does not say
--
-- An average is over the tasks that were found, not over the ids looked at (pitfalls G25).

local tasks, groups = tonumber(ARGV[2]), tonumber(ARGV[3])
local denied = false

local function size_of(key)
  local size = redis.pcall('MEMORY', 'USAGE', key)
  if type(size) == 'table' then
    denied = true
    return nil
  end
  return size or nil
end

-- The bytes of the tasks found among some ids, and how many were found.
local function sample(ids)
  local bytes, found = 0, 0
  for _, id in ipairs(ids) do
    local size = size_of(ARGV[1] .. 't:' .. id)
    if size then
      bytes, found = bytes + size, found + 1
    end
  end
  return bytes, found
end

local total = 0
for i = 1, 6 do
  local list = i <= 2
  local length = redis.pcall(list and 'LLEN' or 'ZCARD', KEYS[i])
  if type(length) == 'number' and length > 0 then
    local bytes, found = sample(redis.call(list and 'LRANGE' or 'ZRANGE', KEYS[i], 0, tasks - 1))
    if found > 0 then
      total = total + bytes / found * length
    end
    total = total + (size_of(KEYS[i]) or 0)
  end
end
local waiting, bytes, found, sampled = 0, 0, 0, 0
local names = redis.pcall('SMEMBERS', KEYS[7])
for _, group in ipairs(names.err and {} or names) do
  local key = ARGV[1] .. 'g:' .. group
  local size = redis.pcall('ZCARD', key)
  if type(size) == 'number' and size > 0 then
    waiting = waiting + size
    if sampled < groups then
      sampled = sampled + 1
      local more, among = sample(redis.call('ZRANGE', key, 0, tasks - 1))
      bytes, found = bytes + more, found + among
    end
  end
end
if found > 0 then
  total = total + bytes / found * waiting
end
if denied then
  return ''
end
return math.floor(total)
