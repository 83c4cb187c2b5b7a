-- include: counters. A counter that cannot be incremented harms nothing else: its error is
-- returned as a note.

-- Counts the tasks in `ends`, true for a failure, which counts as processed too.
-- keys: processed:<day>, failed:<day>, processed, failed. stats_until: when new day counters end.
local function count(keys, ends, stats_until)
  local processed, failed = #ends, 0
  if processed == 0 then
    return ''
  end
  for _, failure in ipairs(ends) do
    if failure then
      failed = failed + 1
    end
  end
  local note = ''
  local function add(key, by, daily)
    if by == 0 then
      return
    end
    local value = redis.pcall('INCRBY', key, by)
    if type(value) == 'table' then
      note = key .. ': ' .. value.err
    elseif daily and value == by then
      redis.call('EXPIREAT', key, stats_until)
    end
  end
  add(keys[1], processed, true)
  add(keys[2], failed, true)
  local total = redis.pcall('GET', keys[3])
  local number = type(total) == 'string' and tonumber(total) or 0
  if number < 9.2e18 then
    add(keys[3], processed)
    add(keys[4], failed)
    return note
  end
  -- Near the limit, one at a time as Go does: a total that equals the limit as a double starts
  -- again at 1, and the failures with it if this was one.
  for _, failure in ipairs(ends) do
    if tonumber(redis.call('GET', keys[3])) == 9223372036854775807 then
      redis.call('SET', keys[3], 1)
      if failure then
        redis.call('SET', keys[4], 1)
      end
    else
      add(keys[3], 1)
      if failure then
        add(keys[4], 1)
      end
    end
  end
  return note
end
