-- include: counters. A counter that cannot be incremented harms nothing else: its error is
-- returned as a note.

-- Above this a total is counted one task at a time: Lua's numbers no longer tell its last digits.
local NEAR_LIMIT = 9.2e18

-- Counts the tasks in `ends`, true for a failure, which counts as processed too.
-- stats_until: when new counters of the day end.
local function count(prefix, day, ends, stats_until)
  local processed, failed = #ends, 0
  if processed == 0 then
    return ''
  end
  for i = 1, processed do
    if ends[i] then
      failed = failed + 1
    end
  end
  local note = ''
  local function add(name, by)
    if by == 0 then
      return 0
    end
    local value = try('INCRBY', prefix .. name, by)
    if type(value) == 'table' then
      note = prefix .. name .. ': ' .. value.err
      return 0
    end
    return value
  end
  local function add_of_day(name, by)
    if by > 0 and add(name .. ':' .. day, by) == by then
      call('EXPIREAT', prefix .. name .. ':' .. day, stats_until)
    end
  end
  add_of_day('processed', processed)
  add_of_day('failed', failed)
  local total = try('INCRBY', prefix .. 'processed', processed)
  if type(total) == 'number' and total < NEAR_LIMIT then
    add('failed', failed)
    return note
  end
  if type(total) == 'number' then
    call('DECRBY', prefix .. 'processed', processed)
  elseif not string.find(total.err, 'overflow', 1, true) then
    note = prefix .. 'processed: ' .. total.err
    add('failed', failed)
    return note
  end
  -- Near the limit, one at a time as Go does: a total that equals the limit as a double starts
  -- again at 1, and the failures with it if this was one.
  for i = 1, processed do
    if tonumber(call('GET', prefix .. 'processed')) == 9223372036854775807 then
      call('SET', prefix .. 'processed', 1)
      if ends[i] then
        call('SET', prefix .. 'failed', 1)
      end
    else
      add('processed', 1)
      if ends[i] then
        add('failed', 1)
      end
    end
  end
  return note
end
