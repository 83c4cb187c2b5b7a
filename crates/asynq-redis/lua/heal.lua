-- heal: repairs active entries and leases that crashed writers left behind (differences.md#ids-without-a-hash,
-- differences.md#active-without-a-lease, differences.md#poison-messages), and removes groups without tasks from
-- the index. Checks a part of each in each call.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 now in s, 3 index in active to begin at, 4 rank in lease to begin at,
--       5 most entries of active, 6 most entries of lease, 7 grace after the end of a lease in s,
--       8 most groups
-- returns {ids that got a lease, leases removed,
--       tasks that may not stand where their state says: id, state, pending_since ...,
--       unusable: id, kind ..., index and rank to go on at (0: from the start)}
--       kinds: n no key, h not a hash, m no message, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A new lease ends now: the usual recovery takes over, and a living owner can still extend it. relist.lua
-- handles tasks that may be missing in the container of their state. A long list is searched only until the
-- call has passed a certain number of entries. A task that was not searched for is not suspected.

local prefix, now = ARGV[1], ARGV[2]
local active, lease = KEYS[2], KEYS[3]
local bad = misplaced()
if bad then
  return wrong_type(bad)
end

-- Read.
local leased, stale, doubtful, aside = {}, {}, {}, {}
local function doubt(id, state)
  local since = redis.pcall('HGET', prefix .. 't:' .. id, 'pending_since')
  local n = #doubtful
  doubtful[n + 1], doubtful[n + 2], doubtful[n + 3] = id, state, type(since) == 'string' and since or ''
end
local function range(command, key, from, most, ...)
  return most > 0 and redis.call(command, key, from, from + most - 1, ...) or {}
end
local from, most = tonumber(ARGV[3]), tonumber(ARGV[5])
local ids, length = range('LRANGE', active, from, most), redis.call('LLEN', active)
local looked, left = 0, 0
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local state = redis.pcall('HGET', key, 'state')
  local kind = nil
  if type(state) == 'table' or redis.call('HEXISTS', key, 'msg') == 0 then
    kind = damage(key)
  elseif state == 'active' then
    if not redis.call('ZSCORE', lease, id) then
      leased[#leased + 1] = id
    end
  elseif not STATES[state] then
    kind = 's'
  else
    doubt(id, state)
  end
  if kind then
    -- Each of them costs a walk through the list.
    if passed + length > MOST_PASSED and #aside > 0 then
      break
    end
    passed = passed + length
    aside[#aside + 1] = id
    aside[#aside + 1] = kind
    left = left + 1
  end
  looked = looked + 1
end
local rank, most_leases = tonumber(ARGV[4]), tonumber(ARGV[6])
local entries = range('ZRANGE', lease, rank, most_leases, 'WITHSCORES')
local overdue = tonumber(now) - tonumber(ARGV[7])
for i = 1, #entries, 2 do
  local id = entries[i]
  if redis.pcall('HGET', prefix .. 't:' .. id, 'state') ~= 'active' then
    stale[#stale + 1] = id
  elseif tonumber(entries[i + 1]) <= overdue then
    search(active, id)
    if in_list(active, id) == 0 then
      -- An id that is not in active cannot be recovered.
      doubt(id, 'active')
    end
  end
end

-- Some groups in the index without tasks, which no server collects.
for _, group in ipairs(redis.call('SRANDMEMBER', KEYS[8], ARGV[8])) do
  if redis.call('EXISTS', prefix .. 'g:' .. group) == 0 then
    redis.call('SREM', KEYS[8], group)
  end
end

-- Write. The first write frees memory.
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
  (looked == #ids and #ids < most) and 0 or from + looked - left,
  #entries < 2 * most_leases and 0 or rank + most_leases - #stale,
}
