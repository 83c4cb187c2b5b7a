-- include: the exchange that most calls are: tasks that are done and have no lock, and a take of usable tasks. Comes
-- before all other includes but chunks.lua and active.lua, so that a call that ends here does not pay for their
-- functions. What is not plain is left to exchange.lua, with nothing written.

local prefix, pending = ARGV[1], KEYS[1]
-- Set once the outcomes of the call are written; `uncounted` then has how many tasks are still to be counted.
local codes, later, note, uncounted = nil, false, '', nil
do
  local ARGV, call, try = ARGV, redis.call, redis.pcall
  local active, lease, task_of, want = prefix .. 'active', prefix .. 'lease', prefix .. 't:', ARGV[5]
  local waiting = want ~= '0' and try('LRANGE', pending, '-' .. want, '-1')

  -- Look: at the ids behind the fences, if there is nothing else.
  local ids, lowest, n = nil, ARGV[12], 0
  if waiting and waiting.err then
    ids = nil
  elseif ARGV[10] == '0' then
    if not ARGV[11] and type(try('LLEN', active)) == 'number' and type(try('ZCARD', lease)) == 'number' then
      codes = ''
    end
  elseif ARGV[10] == '1' then
    n = #ARGV - 13
    if n == tonumber(ARGV[13]) then
      ids = { unpack(ARGV, 14) }
    end
  else
    local pos, least = 11, nil
    ids = {}
    for _ = 1, tonumber(ARGV[10]) do
      local until_s = tonumber(ARGV[pos + 1])
      if not least or until_s < least then
        least, lowest = until_s, ARGV[pos + 1]
      end
      local first = pos + 3
      pos = first + tonumber(ARGV[pos + 2])
      for i = first, pos - 1 do
        n = n + 1
        ids[n] = ARGV[i]
      end
    end
    if ARGV[pos] then
      ids = nil
    end
  end

  -- Look: at each fence, as settle.lua does.
  local keys = nil
  if ids and n > 0 then
    local scores = try('ZCOUNT', lease, '(' .. lowest, '+inf') ~= 0 and try('ZMSCORE', lease, unpack(ids))
    local i, pos = 0, 11
    if not scores or not scores.err then
      keys = { unpack(ids) }
    end
    while keys and i < n do
      local token, last = ARGV[pos], i + tonumber(ARGV[pos + 2])
      local highest = scores and tonumber(ARGV[pos + 1])
      pos = pos + 3 + last - i
      while i < last do
        i = i + 1
        local key = task_of .. ids[i]
        local task = try('HMGET', key, 'x:take', 'state')
        if task[1] ~= token or task[2] ~= 'active'
          or (scores and scores[i] and tonumber(scores[i]) > highest) then
          keys = nil
          break
        end
        keys[i] = key
      end
    end
  end

  -- Write: out of active first.
  if keys then
    local size = n < 8 and 2 * n or n + 8
    local span = try('LRANGE', active, -size, '-1')
    local length, out = #span, nil
    if length >= n then
      -- Tasks that end in the order in which they were taken stand so at the tail.
      out = ids
      for i = 1, n do
        if span[length + 1 - i] ~= ids[i] then
          out = nil
          break
        end
      end
    end
    if out then
      call('LTRIM', active, '0', -n - 1)
      codes = string.rep('1', n)
    else
      local wanted, of = {}, {}
      for i = 1, n do
        wanted[ids[i]] = i
      end
      if not span.err then
        out, later = take_out(active, wanted, n, ids, of, span)
      end
      if out then
        codes = table.concat(of)
        if #out < n then
          local gone = {}
          for i = 1, n do
            if of[i] == '1' then
              gone[#gone + 1] = keys[i]
            end
          end
          keys, n = gone, #gone
        end
      end
    end
    if out and n > 0 then
      call('ZREM', lease, unpack(out))
      call('UNLINK', unpack(keys))
      local count = n
      local total = try('INCRBY', prefix .. 'processed', count)
      if type(total) == 'number' and total < 9.2e18 then
        local of_day = prefix .. 'processed:' .. ARGV[4]
        total = try('INCRBY', of_day, count)
        if total == count then
          call('EXPIREAT', of_day, ARGV[3])
        elseif type(total) == 'table' then
          note = of_day .. ': ' .. total.err
        end
      else
        if type(total) == 'number' then
          call('DECRBY', prefix .. 'processed', count)
        end
        uncounted = count
      end
    end
  end

  if codes and not uncounted then
    if not waiting or later then
      return { codes, 0, note, 0 }
    end
    local time = ARGV[9] ~= '' and try('TIME')
    local is_askew = time and time[1] ~= ARGV[2]
      and (time.err or math.abs(tonumber(time[1]) - tonumber(ARGV[2])) > tonumber(ARGV[9]))
    if not is_askew then
      if call('EXISTS', prefix .. 'paused') == 1 then
        return { codes, 1, note, 0 }
      end
      -- From the tail.
      local taken = #waiting
      local exhausted, i, j = taken < tonumber(want) and 1 or 0, 1, taken
      if taken == 0 then
        return { codes, 1, note, 0 }
      end
      while i < j do
        waiting[i], waiting[j] = waiting[j], waiting[i]
        i, j = i + 1, j - 1
      end
      local find = string.find
      local of, msgs, deadlines, most, bytes = { unpack(waiting) }, { unpack(waiting) }, nil, tonumber(ARGV[6]), 0
      local since = {}
      for i = 1, taken do
        local key = task_of .. waiting[i]
        local msg
        if i <= 4 or i % 8 == 0 then
          local task = try('HMGET', key, 'msg', 'pending_since')
          msg, since[#since + 1] = task[1], task[2] or ''
        else
          msg = try('HGET', key, 'msg')
        end
        if not msg or msg.err then
          -- Damaged.
          taken = 0
          break
        end
        bytes = bytes + #msg
        if bytes > most and i > 1 then
          taken, exhausted = i - 1, 0
          break
        end
        of[i], msgs[i] = key, msg
        -- A deadline in ms stands beside one in s, which is field 9 of the message and longer than 7 bits.
        local at, tries = find(msg, 'H', 1, true), 0
        while at and tries < 4 and (string.byte(msg, at + 1) or 0) < 128 do
          at, tries = find(msg, 'H', at + 1, true), tries + 1
        end
        local deadline = at and call('HGET', key, 'x:deadline')
        if deadline then
          deadlines = deadlines or {}
          deadlines[#deadlines + 1] = i
          deadlines[#deadlines + 1] = deadline
        end
      end
      if taken > 0 then
        local reply = { codes, exhausted, note, taken, unpack(waiting, 1, taken) }
        local token, score = ARGV[7], ARGV[8]
        call('LTRIM', pending, '0', -taken - 1)
        local leases, long = nil, nil
        if taken < 16 then
          leases = { score, waiting[1], score, waiting[2], score, waiting[3], score, waiting[4], score, waiting[5] }
        else
          -- A small sorted set is searched from its start for each member, unless one is longer than Redis keeps so.
          long = string.rep('x', 65)
          leases = { score, long }
        end
        local shift = long and 2 or 0
        for i = 1, taken do
          local key = of[i]
          call('HDEL', key, 'pending_since', 'x:adopt', 'x:cancel', 'x:progress', 'x:at')
          call('HSET', key, 'state', 'active', 'x:take', token)
          reply[4 + taken + i] = msgs[i]
          local place = shift + 2 * i
          leases[place - 1], leases[place] = score, waiting[i]
        end
        -- The order that as many single takes leave behind: the last one at the head.
        call('LPUSH', active, unpack(waiting, 1, taken))
        call('ZADD', lease, unpack(leases, 1, shift + 2 * taken))
        if long then
          call('ZREM', lease, long)
        end
        local place = 5 + 2 * taken
        reply[place] = table.concat(since, ' ')
        if deadlines then
          reply[place + 1], reply[place + 2], reply[place + 3] = {}, '', deadlines
        end
        return reply
      end
    end
  end
end
