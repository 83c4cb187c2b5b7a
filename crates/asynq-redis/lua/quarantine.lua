-- quarantine: quarantines a task whose message cannot be decoded.
--
-- KEYS  1 container: a list (active) or a sorted set, 2 lease
-- ARGV  1 queue prefix, 2 id, 3 now in s, 4 fence: the token of the take (`take`), the lease in s
--       that was seen (`lease`; a stranger's fraction was floored), or nothing (`member`: standing in the container is enough),
--       5 what the fence is: take, lease, member
-- returns 1 quarantined, 0 the task has changed since it was read

local key = ARGV[1] .. 't:' .. ARGV[2]
if ARGV[5] == 'take' then
  local task = redis.pcall('HMGET', key, 'x:take', 'state')
  if task.err or task[1] ~= ARGV[4] or task[2] ~= 'active' then
    return 0
  end
elseif ARGV[5] == 'lease' then
  local score = redis.pcall('ZSCORE', KEYS[2], ARGV[2])
  if type(score) ~= 'string' or math.floor(tonumber(score)) ~= tonumber(ARGV[4]) then
    return 0
  end
end
local kind = redis.call('TYPE', KEYS[1]).ok
local removed = 0
if kind == 'list' then
  removed = redis.call('LREM', KEYS[1], -1, ARGV[2])
  if holds(KEYS[2], 'zset') then
    removed = removed + redis.call('ZREM', KEYS[2], ARGV[2])
  end
elseif kind == 'zset' then
  removed = redis.call('ZREM', KEYS[1], ARGV[2])
end
if removed == 0 then
  return 0
end
put_aside(ARGV[1], ARGV[2], ARGV[3])
return 1
