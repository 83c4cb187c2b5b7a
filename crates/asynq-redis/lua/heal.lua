-- heal: repairs active entries and leases that crashed writers left behind (pitfalls G8, G10, G11),
-- and takes groups without tasks out of the index. Looks at a part of each in each call.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 now in s, 3 index in active to begin at, 4 rank in lease to begin at,
--       5 most entries of each, 6 grace after the end of a lease in s
-- returns {ids that got a lease, leases removed, ids put where their state says,
--       put aside: id, kind ..., index and rank to go on at (0: from the start)}
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The lease that is made ends now: the usual recovery takes over, and a living owner can extend it.

local prefix, now, most = ARGV[1], ARGV[2], tonumber(ARGV[5])
local active, lease = KEYS[2], KEYS[3]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end

-- Look.
local leased, stale, relisted, aside, strays, lost = {}, {}, {}, {}, {}, {}
local from = tonumber(ARGV[3])
local ids = redis.call('LRANGE', active, from, from + most - 1)
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'group')
  if task.err or redis.call('HEXISTS', key, 'msg') == 0 then
    aside[#aside + 1] = id
    aside[#aside + 1] = damage(key)
  elseif task[1] == 'active' then
    if not redis.call('ZSCORE', lease, id) then
      leased[#leased + 1] = id
    end
  elseif not STATES[task[1]] then
    aside[#aside + 1] = id
    aside[#aside + 1] = 's'
  else
    local found, all = places(id, task[2])
    if #found > 1 then
      strays[#strays + 1] = id
    elseif all then
      lost[#lost + 1] = id
    end
  end
end
local rank = tonumber(ARGV[4])
local entries = redis.call('ZRANGE', lease, rank, rank + most - 1, 'WITHSCORES')
local unlisted, overdue = {}, tonumber(now) - tonumber(ARGV[6])
for i = 1, #entries, 2 do
  local id = entries[i]
  if redis.pcall('HGET', prefix .. 't:' .. id, 'state') ~= 'active' then
    stale[#stale + 1] = id
  elseif tonumber(entries[i + 1]) <= overdue and in_list(active, id) == 0 then
    -- Nobody can recover what does not stand in active.
    unlisted[#unlisted + 1] = id
  end
end

-- Groups in the index without tasks, any of them: nobody collects those.
for _, group in ipairs(redis.call('SRANDMEMBER', KEYS[8], most)) do
  if redis.call('EXISTS', prefix .. 'g:' .. group) == 0 then
    redis.call('SREM', KEYS[8], group)
  end
end

-- Write, first what frees.
for i = 1, #aside, 2 do
  redis.call('LREM', active, -1, aside[i])
  redis.call('ZREM', lease, aside[i])
  put_aside(prefix, aside[i], now)
end
for _, id in ipairs(strays) do
  redis.call('LREM', active, -1, id)
  redis.call('ZREM', lease, id)
  relisted[#relisted + 1] = id
end
if #stale > 0 then
  call_each('ZREM', lease, stale)
end
if #leased + #lost + #unlisted > 0 then
  redis.call('ZREM', lease, '')
end
for _, id in ipairs(leased) do
  redis.call('ZADD', lease, 'NX', now, id)
end
for _, id in ipairs(lost) do
  redis.call('HSET', prefix .. 't:' .. id, 'state', 'active')
  redis.call('HDEL', prefix .. 't:' .. id, 'pending_since', 'x:take', 'x:adopt')
  redis.call('ZADD', lease, 'NX', now, id)
  relisted[#relisted + 1] = id
end
for _, id in ipairs(unlisted) do
  redis.call('LPUSH', active, id)
  relisted[#relisted + 1] = id
end
local left = #aside / 2 + #strays
return {
  leased, stale, relisted, aside,
  #ids < most and 0 or from + most - left,
  #entries < 2 * most and 0 or rank + most - #stale,
}
