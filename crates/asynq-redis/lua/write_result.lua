-- write_result: stores the result of a handler (transitions.md#write-a-result) or its progress, while the task
-- is active and ours.
--
-- KEYS  1 task, 2 lease
-- ARGV  1 id, 2 token of the take, 3 highest lease written in s, 4 field of the hash (`result`,
--       `x:progress`), 5 value
-- returns '1' written, '0' not ours, 'h' the task key is not a hash, 's' its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- Under maxmemory Redis refuses this script.

local STATES = {
  active = true, pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}
local task = redis.pcall('HMGET', KEYS[1], 'x:take', 'state')
if task.err then
  return 'h'
elseif task[1] == ARGV[2] and not STATES[task[2]] then
  return 's'
elseif task[1] ~= ARGV[2] or task[2] ~= 'active' then
  return '0'
end
local score = redis.pcall('ZSCORE', KEYS[2], ARGV[1])
if type(score) == 'table' then
  return wrong_type(KEYS[2])
end
if score and tonumber(score) > tonumber(ARGV[3]) then
  return '0'
end
redis.call('HSET', KEYS[1], ARGV[4], ARGV[5])
return '1'
