-- include: faults of a counter. Needs ARGV 1 queue prefix

-- The counter of processed tasks of a day ends up to a day before that of failed tasks, which begins later. Some
-- clocks are wrong by minutes.
local LAST_DAY = 25 * 3600

-- The faults of a counter, a string at `key` with the name `suffix`: number (it is not one), more (more tasks failed than
-- were processed), no end (a day without an end), an end (a total with an end).
local function counter_faults(suffix, key)
  local value, ttl = tonumber(redis.call('GET', key)), redis.call('TTL', key)
  if not value then
    return { 'number' }
  end
  local faults = {}
  local daily, day = string.find(suffix, ':', 1, true), string.match(suffix, '^failed(.*)$')
  if day then
    local processed = redis.pcall('GET', ARGV[1] .. 'processed' .. day)
    local ended = daily and processed == false and ttl >= 0 and ttl <= LAST_DAY
    if not ended and value > (type(processed) == 'string' and tonumber(processed) or 0) then
      faults[#faults + 1] = 'more'
    end
  end
  if daily and ttl < 0 then
    faults[#faults + 1] = 'no end'
  elseif not daily and ttl >= 0 then
    faults[#faults + 1] = 'an end'
  end
  return faults
end
