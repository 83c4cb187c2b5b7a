-- read_set: reads the tasks of an aggregation set, a part in each call (transitions.md#read-a-set).
--
-- KEYS  1 set, 2 aggregation_sets
-- ARGV  1 queue prefix, 2 rank to begin at, 3 most tasks, 4 most bytes of messages (the first
--       excepted), 5 now in s
-- returns {rank to go on at (-1: done, -2: the set is no longer listed), tasks: id, msg ...,
--       unusable: id, kind ...}
--       kinds: n no key, h not a hash, m no message
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- Reads only, except that ids without a usable task are removed from the set, and a set without tasks from the
-- list of sets.

local prefix, set, sets = ARGV[1], KEYS[1], KEYS[2]
local bad = misfit({ set, 'zset', sets, 'zset' })
if bad then
  return wrong_type(bad)
end
if not redis.call('ZSCORE', sets, set) then
  return { -2, {}, {} }
end
local start, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = redis.call('ZRANGE', set, start, start + most - 1)
local tasks, aside, bytes, last = {}, {}, 0, #ids < most
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local msg = redis.pcall('HGET', key, 'msg')
  if type(msg) ~= 'string' then
    aside[#aside + 1] = id
    aside[#aside + 1] = damage(key)
  else
    bytes = bytes + #msg
    if bytes > tonumber(ARGV[4]) and #tasks > 0 then
      last = false
      break
    end
    tasks[#tasks + 1] = id
    tasks[#tasks + 1] = msg
  end
end
for i = 1, #aside, 2 do
  redis.call('ZREM', set, aside[i])
  put_aside(prefix, aside[i], ARGV[5])
end
if redis.call('EXISTS', set) == 0 then
  redis.call('ZREM', sets, set)
  last = true
end
return { last and -1 or start + #tasks / 2, tasks, aside }
