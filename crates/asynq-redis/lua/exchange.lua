-- exchange: writes the outcomes of finished tasks and takes new ones, in one step (transitions.md#take to
-- transitions.md#archive).
--
-- KEYS  1 pending; the others are of the same queue, by their prefix
-- ARGV  1 to 4 as in include/settle.lua,
--       5 most tasks to take, 6 most bytes of messages to take (the first excepted),
--       7 token of this take, 8 lease of this take in s,
--       9 by how much the clock of this server may differ from 2 in s ('' it does not count),
--       10 number of fences, then for each: token, highest lease written in s, number of ids,
--          then the ids of tasks that are done and have no lock, each once
--       then, if there are other outcomes, what include/settle.lua calls more; an item's fence is the number of one, from 1
-- returns {codes, 1 if pending had fewer than were wanted (or is paused) else 0, note on counters,
--       number of tasks taken, and if there are any: their ids in starting order, their messages, and in
--       one text, separated by spaces, the pending_since of the first four and of every eighth
--       then, if there is something in one of them: put aside: id, kind ...,
--       '' or, if nothing was taken since the clocks differ, the time here: seconds, microseconds,
--       deadlines that are no whole seconds: number of the task among those taken from 1, ms ...}
--       kinds: n no key, h not a hash, m no message; codes as in include/settle.lua, of the ids behind the
--       fences first, then of the items
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A task is ours if x:take is the token of our take and its lease is absent or not above the
-- highest that we wrote (rules.md#fenced-settle). Outcomes are written before tasks are taken; if not all
-- could be looked at, nothing is taken. A lease by a wrong clock, as after a suspend of the caller's
-- host, would have ended before it began, or keep a dead owner's task for too long.

-- What exchange_plain.lua has left.
local ARGV = ARGV
local want = tonumber(ARGV[5])

-- The items, and where in ARGV the fence of each stands.
local ids, kinds, at, fence, fences, lowest, pos = {}, {}, {}, {}, {}, nil, 11
for number = 1, tonumber(ARGV[10]) do
  local until_s = tonumber(ARGV[pos + 1])
  lowest = math.min(lowest or until_s, until_s)
  fences[number] = pos
  local n, first = #ids, pos + 2
  for i = 1, tonumber(ARGV[first]) do
    ids[n + i], kinds[n + i], fence[n + i] = ARGV[first + i], 'd', pos
  end
  pos = first + 1 + #ids - n
end
local more = ARGV[pos] and pos
if more then
  local n = #ids
  read_items(more, ids, kinds, at)
  for i = n + 1, #ids do
    fence[i] = fences[tonumber(ARGV[at[i] + 1])]
  end
end

local waiting = nil
if want > 0 then
  waiting = try('LRANGE', pending, -want, -1)
  if waiting.err then
    return wrong_type(pending)
  end
  if type(try('LLEN', prefix .. 'active')) ~= 'number' then
    return wrong_type(prefix .. 'active')
  elseif #ids == 0 and type(try('ZCARD', prefix .. 'lease')) ~= 'number' then
    return wrong_type(prefix .. 'lease')
  end
end

if uncounted then
  local ends = {}
  for i = 1, uncounted do
    ends[i] = false
  end
  note = count(prefix, ARGV[4], ends, ARGV[3])
elseif not codes and #ids == 0 then
  codes = ''
elseif not codes then
  codes, later, note = settle(ids, kinds, at, more, function(i, take, score)
    local of = fence[i]
    return take == ARGV[of] and (not score or score <= tonumber(ARGV[of + 1]))
  end, lowest and string.format('%d', lowest))
  if not codes then
    return wrong_type(later)
  end
end
if want == 0 or later then
  return { codes, 0, note, 0 }
end
if ARGV[9] ~= '' then
  local time = try('TIME')
  if not time.err and math.abs(tonumber(time[1]) - tonumber(ARGV[2])) > tonumber(ARGV[9]) then
    return { codes, 0, note, 0, {}, time, {} }
  end
end
if call('EXISTS', prefix .. 'paused') == 1 then
  return { codes, 1, note, 0 }
end
if more then
  -- Outcomes may have put tasks back.
  waiting = call('LRANGE', pending, -want, -1)
end

-- From the tail. Ids without a usable task make room for others, up to a bound.
local most, bytes, full, looked_at, missing, exhausted = tonumber(ARGV[6]), 0, false, 0, want, false
local ready, msgs, since, keys, leases, aside, deadlines = {}, {}, {}, {}, {}, {}, {}
while true do
  local looked = 0
  for i = #waiting, 1, -1 do
    local id = waiting[i]
    local key = prefix .. 't:' .. id
    local n = #ready + 1
    local task
    if n <= 4 or n % 8 == 0 then
      task = try('HMGET', key, 'msg', 'x:deadline', 'pending_since')
    else
      task = try('HMGET', key, 'msg', 'x:deadline')
    end
    local msg = not task.err and task[1]
    if msg then
      bytes = bytes + #msg
      if bytes > most and #ready > 0 then
        full = true
        break
      end
      ready[n], msgs[n], keys[n] = id, msg, key
      if n <= 4 or n % 8 == 0 then
        since[#since + 1] = task[3] or ''
      end
      leases[2 * n - 1], leases[2 * n] = ARGV[8], id
      if task[2] then
        deadlines[#deadlines + 1] = n
        deadlines[#deadlines + 1] = task[2]
      end
    else
      aside[#aside + 1] = id
      aside[#aside + 1] = damage(key)
    end
    looked = looked + 1
  end
  if looked > 0 then
    call('LTRIM', pending, 0, -looked - 1)
    looked_at = looked_at + looked
  end
  exhausted = not full and #waiting < missing
  missing = want - #ready
  if missing == 0 or full or exhausted or looked_at >= 1000 then
    break
  end
  waiting = call('LRANGE', pending, -missing, -1)
end
for i = 1, #aside, 2 do
  put_aside(prefix, aside[i], ARGV[2])
end
local n = #ready
if n > 0 then
  for i = 1, n do
    call('HDEL', keys[i], 'pending_since', 'x:adopt', 'x:cancel', 'x:progress', 'x:at')
    call('HSET', keys[i], 'state', 'active', 'x:take', ARGV[7])
  end
  -- The order that as many single takes leave behind: the last one at the head.
  call('LPUSH', prefix .. 'active', unpack(ready))
  if n < 16 then
    call('ZADD', prefix .. 'lease', unpack(leases))
  else
    -- A small sorted set is searched from its start for each member, unless one is longer than Redis keeps so.
    local long = string.rep('x', 65)
    leases[2 * n + 1], leases[2 * n + 2] = leases[1], leases[2]
    leases[1], leases[2] = ARGV[8], long
    call('ZADD', prefix .. 'lease', unpack(leases))
    call('ZREM', prefix .. 'lease', long)
  end
end
local reply = { codes, exhausted and 1 or 0, note, n, unpack(ready) }
for i = 1, n do
  reply[n + 4 + i] = msgs[i]
end
if n > 0 then
  reply[2 * n + 5] = table.concat(since, ' ')
end
if #aside + #deadlines > 0 then
  local place = #reply
  reply[place + 1], reply[place + 2], reply[place + 3] = aside, '', deadlines
end
return reply
