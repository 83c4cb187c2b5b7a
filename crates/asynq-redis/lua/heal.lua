-- heal: repairs active entries and leases that crashed writers left behind (pitfalls G8, G10, G11),
-- and takes groups without tasks out of the index. Looks at a part of each in each call.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 now in s, 3 index in active to begin at, 4 rank in lease to begin at,
--       5 most entries of each, 6 grace after the end of a lease in s
-- returns {ids that got a lease, leases removed, ids that may not stand where their state says,
--       put aside: id, kind ..., index and rank to go on at (0: from the start)}
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The lease that is made ends now: the usual recovery takes over, and a living owner can extend it.
-- What may not stand where it should is left to relist.lua.

local prefix, now, most = ARGV[1], ARGV[2], tonumber(ARGV[5])
local active, lease = KEYS[2], KEYS[3]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end

-- Look.
local leased, stale, doubtful, aside = {}, {}, {}, {}
local from = tonumber(ARGV[3])
local ids = redis.call('LRANGE', active, from, from + most - 1)
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local state = redis.pcall('HGET', key, 'state')
  if type(state) == 'table' or redis.call('HEXISTS', key, 'msg') == 0 then
    aside[#aside + 1] = id
    aside[#aside + 1] = damage(key)
  elseif state == 'active' then
    if not redis.call('ZSCORE', lease, id) then
      leased[#leased + 1] = id
    end
  elseif not STATES[state] then
    aside[#aside + 1] = id
    aside[#aside + 1] = 's'
  else
    doubtful[#doubtful + 1] = id
  end
end
local rank = tonumber(ARGV[4])
local entries = redis.call('ZRANGE', lease, rank, rank + most - 1, 'WITHSCORES')
local overdue = tonumber(now) - tonumber(ARGV[6])
for i = 1, #entries, 2 do
  local id = entries[i]
  if redis.pcall('HGET', prefix .. 't:' .. id, 'state') ~= 'active' then
    stale[#stale + 1] = id
  elseif tonumber(entries[i + 1]) <= overdue and in_list(active, id) == 0 then
    -- Nobody can recover what does not stand in active.
    doubtful[#doubtful + 1] = id
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
if #stale > 0 then
  call_each('ZREM', lease, stale)
end
if #leased > 0 then
  redis.call('ZREM', lease, '')
end
for _, id in ipairs(leased) do
  redis.call('ZADD', lease, 'NX', now, id)
end
return {
  leased, stale, doubtful, aside,
  #ids < most and 0 or from + most - #aside / 2,
  #entries < 2 * most and 0 or rank + most - #stale,
}
