-- memory_usage: estimates the bytes of the tasks of a queue (transitions.md#memory-usage). Reads only.
--
-- KEYS  1 pending, 2 active, 3 scheduled, 4 retry, 5 archived, 6 completed, 7 groups
-- ARGV  1 queue prefix, 2 tasks to sample of each container, 3 groups to sample, 4 tasks in all groups
-- returns bytes, or '' if the server does not say
--
-- An average is over the tasks found, not over the ids read (differences.md#memory-estimates).

local tasks = tonumber(ARGV[2])
local denied = false

local function size_of(key)
  local size = redis.pcall('MEMORY', 'USAGE', key)
  if type(size) == 'table' then
    denied = true
    return nil
  end
  return size or nil
end

-- The bytes of the tasks found for some ids, and the number of tasks found.
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
local bytes, found = 0, 0
local names = redis.pcall('SRANDMEMBER', KEYS[7], ARGV[3])
for _, group in ipairs(names.err and {} or names) do
  local ids = redis.pcall('ZRANGE', ARGV[1] .. 'g:' .. group, 0, tasks - 1)
  if not ids.err then
    local more, among = sample(ids)
    bytes, found = bytes + more, found + among
  end
end
if found > 0 then
  total = total + bytes / found * tonumber(ARGV[4])
end
if denied then
  return ''
end
return math.floor(total)
