-- exchange: writes the outcomes of finished tasks and takes new ones, in one step (transitions.md#take to
-- transitions.md#archive).
--
-- KEYS  1 to 10 as in include/settle.lua, 11 paused
-- ARGV  1 to 8 as in include/settle.lua,
--       9 most tasks to take, 10 most bytes of messages to take (the first excepted),
--       11 token of this take, 12 lease of this take in s,
--       13 by how much the clock of this server may differ from 2 in s ('' it does not count),
--       14 number of fences, then for each: token, highest lease written in s
--       then number of items, then the items; an item's fence is the number of one, from 1
-- returns {codes, tasks taken: id, msg ... in starting order, put aside: id, kind ...,
--       1 if pending had fewer than were wanted (or is paused) else 0, note on counters,
--       '' or, if nothing was taken since the clocks differ, the time here: seconds, microseconds,
--       deadlines that are no whole seconds: number of the task among those taken from 1, ms ...}
--       kinds: n no key, h not a hash, m no message; codes as in include/settle.lua
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task is ours if x:take is the token of our take and its lease is absent or not above the
-- highest that we wrote (rules.md#fenced-settle). Outcomes are written before tasks are taken; if not all
-- could be looked at, nothing is taken. A lease by a wrong clock, as after a suspend of the caller's
-- host, would have ended before it began, or keep a dead owner's task for too long.

local prefix = ARGV[1]
local pending, active, lease, paused = KEYS[1], KEYS[2], KEYS[3], KEYS[11]

local want = tonumber(ARGV[9])
if want > 0 then
  local bad = misfit({ pending, 'list', active, 'list', lease, 'zset' })
  if bad then
    return wrong_type(bad)
  end
end

local fences = tonumber(ARGV[14])
local first = 15 + 2 * fences
local codes, later, _, note = settle(first + 1, tonumber(ARGV[first]), function(fence, take, score)
  local token = 13 + 2 * tonumber(fence)
  return take == ARGV[token] and (not score or score <= tonumber(ARGV[token + 1]))
end)
if not codes then
  return wrong_type(later)
end
if want == 0 or later then
  return { codes, {}, {}, 0, note, '', {} }
end
if ARGV[13] ~= '' then
  local time = redis.pcall('TIME')
  if not time.err and math.abs(tonumber(time[1]) - tonumber(ARGV[2])) > tonumber(ARGV[13]) then
    return { codes, {}, {}, 0, note, time, {} }
  end
end
if redis.call('EXISTS', paused) == 1 then
  return { codes, {}, {}, 1, note, '', {} }
end

-- From the tail. Ids without a usable task make room for others, up to a bound.
local most, bytes, full, looked_at = tonumber(ARGV[10]), 0, false, 0
local ready, taken, leases, aside, deadlines = {}, {}, {}, {}, {}
local missing = want
while missing > 0 and not full and looked_at < 1000 do
  local ids = redis.call('LRANGE', pending, -missing, -1)
  local looked = 0
  for i = #ids, 1, -1 do
    local id = ids[i]
    local key = prefix .. 't:' .. id
    local task = redis.pcall('HMGET', key, 'msg', 'x:deadline')
    local msg = not task.err and task[1]
    if msg then
      bytes = bytes + #msg
      if bytes > most and #ready > 0 then
        full = true
        break
      end
      ready[#ready + 1] = id
      taken[#taken + 1] = id
      taken[#taken + 1] = msg
      if task[2] then
        deadlines[#deadlines + 1] = #ready
        deadlines[#deadlines + 1] = task[2]
      end
      leases[#leases + 1] = ARGV[12]
      leases[#leases + 1] = id
    else
      aside[#aside + 1] = id
      aside[#aside + 1] = damage(key)
    end
    looked = looked + 1
  end
  if looked == 0 then
    break
  end
  redis.call('RPOP', pending, looked)
  looked_at = looked_at + looked
  missing = want - #ready
end
for i = 1, #aside, 2 do
  put_aside(prefix, aside[i], ARGV[2])
end
if #ready > 0 then
  for _, id in ipairs(ready) do
    local key = prefix .. 't:' .. id
    redis.call('HSET', key, 'state', 'active', 'x:take', ARGV[11])
    redis.call('HDEL', key, 'pending_since', 'x:adopt', 'x:cancel', 'x:progress', 'x:at')
  end
  -- The order that as many single takes leave behind: the last one at the head.
  redis.call('LPUSH', active, unpack(ready))
  redis.call('ZADD', lease, unpack(leases))
end
local exhausted = missing > 0 and not full and redis.call('EXISTS', pending) == 0
return { codes, taken, aside, exhausted and 1 or 0, note, '', deadlines }
