-- collect_group: makes an aggregation set of a group that is full or old enough (transitions.md#collect-a-group).
--
-- KEYS  1 group, 2 the new set, 3 aggregation_sets, 4 groups
-- ARGV  1 group name, 2 most tasks in the set, 3 oldest task added at or before, in s
--       ('': no limit), 4 newest task added at or before, in s, 5 end of the set in s,
--       6 most tasks to move in this call, 7 how many are in the set already (0: it is still to be made)
-- returns {number of tasks in the set, 1 if more are to be moved into it else 0}; 0 tasks if the group
--       is not ready, or the set is no longer listed
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A group that fits into a set becomes the set. Of a larger group, the oldest tasks move to the set in parts.
-- The set is listed from the first part on, so that it is handed back after a crash. Hashes do not change:
-- their state stays `aggregating`. The first write frees memory or renames, so the script runs under maxmemory.

local group, set, sets, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bad = misfit({ group, 'zset', set, 'zset', sets, 'zset', groups, 'set' })
if bad then
  return wrong_type(bad)
end
local size, most, has = redis.call('ZCARD', group), tonumber(ARGV[2]), tonumber(ARGV[7])
if has == 0 then
  if size == 0 then
    redis.call('SREM', groups, ARGV[1])
    return { 0, 0 }
  end
  local oldest = tonumber(redis.call('ZRANGE', group, 0, 0, 'WITHSCORES')[2])
  local newest = tonumber(redis.call('ZRANGE', group, -1, -1, 'WITHSCORES')[2])
  local old = ARGV[3] ~= '' and oldest <= tonumber(ARGV[3])
  if not (size >= most or old or newest <= tonumber(ARGV[4])) then
    return { 0, 0 }
  end
  if size <= most then
    redis.call('RENAME', group, set)
    redis.call('SREM', groups, ARGV[1])
    redis.call('ZADD', sets, ARGV[5], set)
    return { size, 0 }
  end
elseif not redis.call('ZSCORE', sets, set) then
  return { 0, 0 }
end

local n = math.min(tonumber(ARGV[6]), most - has, size)
if n > 0 then
  local members, entries = redis.call('ZRANGE', group, 0, n - 1, 'WITHSCORES'), {}
  for i = 1, #members, 2 do
    entries[i], entries[i + 1] = members[i + 1], members[i]
  end
  redis.call('ZREMRANGEBYRANK', group, 0, n - 1)
  for i = 1, #entries, 1000 do
    redis.call('ZADD', set, unpack(entries, i, math.min(i + 999, #entries)))
  end
  redis.call('ZADD', sets, ARGV[5], set)
end
if size == n then
  redis.call('SREM', groups, ARGV[1])
end
has = has + n
return { has, has < most and size > n and 1 or 0 }
