-- adopt: finds the tasks that a call without an answer took, and gives them a new lease
-- (rules.md#calls-outlive-actors). Walks over `active` from the head, a part in each call.
--
-- KEYS  1 active, 2 lease
-- ARGV  1 queue prefix, 2 token of the lost call, 3 lease that it wrote in s, 4 new lease in s,
--       5 index to begin at, 6 the id that stands before it ('' at index 0),
--       7 most entries to look at, 8 most bytes of messages (the first excepted),
--       9 now in s
-- returns {index to go on at (-1: done, -2: lost the place, begin anew), id before it,
--          tasks: id, msg, lease now in force in s, deadline in ms or '' ..., unusable ids: id, kind ...}
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task is ours if it carries the token, is active, and has no lease or one not above the lease that the call
-- wrote. Go never removes x:take, and may have recovered and taken the task since. x:adopt holds the lease that
-- an adoption wrote, so that an adoption whose answer was lost can be repeated. The ids of one take are
-- adjacent, so the walk ends behind them. A lease is never shortened, even if the caller's clock was set back.

local prefix, token, lost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local active, lease = KEYS[1], KEYS[2]
local bad = misfit({ active, 'list', lease, 'zset' })
if bad then
  return wrong_type(bad)
end

local start = tonumber(ARGV[5])
if start > 0 and redis.call('LINDEX', active, start - 1) ~= ARGV[6] then
  local place = redis.call('LPOS', active, ARGV[6])
  if not place then
    return { -2, '', {}, {} }
  end
  start = place + 1
end

local ids = redis.call('LRANGE', active, start, start + tonumber(ARGV[7]) - 1)
local tasks, broken, leases, bytes, seen, done = {}, {}, {}, 0, #ids, #ids < tonumber(ARGV[7])
for i, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'x:take', 'state', 'x:adopt')
  if not task.err and task[1] == token then
    local score = redis.call('ZSCORE', lease, id)
    if task[2] == 'active' and (not score or tonumber(score) <= lost or score == task[3]) then
      local msg, deadline = unpack(redis.call('HMGET', key, 'msg', 'x:deadline'))
      if not msg then
        broken[#broken + 1] = id
        broken[#broken + 1] = 'm'
      else
        bytes = bytes + #msg
        if bytes > tonumber(ARGV[8]) and #tasks > 0 then
          seen, done = i - 1, false
          break
        end
        tasks[#tasks + 1] = id
        tasks[#tasks + 1] = msg
        local ends = ARGV[4]
        if score and tonumber(score) > tonumber(ends) then
          ends = score
        end
        tasks[#tasks + 1] = ends
        tasks[#tasks + 1] = deadline or ''
        leases[#leases + 1] = ends
        leases[#leases + 1] = id
      end
    end
  elseif #tasks + #broken > 0 then
    done = true
    break
  end
end

if #leases > 0 or #broken > 0 then
  -- A write that frees memory, so that the rest is allowed under maxmemory.
  redis.call('ZREM', lease, '')
  for i = 1, #broken, 2 do
    redis.call('LREM', active, 1, broken[i])
    redis.call('ZREM', lease, broken[i])
    put_aside(prefix, broken[i], ARGV[9])
  end
  for i = 1, #leases, 2000 do
    redis.call('ZADD', lease, unpack(leases, i, math.min(i + 1999, #leases)))
  end
  for i = 1, #leases, 2 do
    redis.call('HSET', prefix .. 't:' .. leases[i + 1], 'x:adopt', leases[i])
  end
end
if done or seen == 0 then
  return { -1, '', tasks, broken }
end
return { start + seen - #broken / 2, ids[seen], tasks, broken }
