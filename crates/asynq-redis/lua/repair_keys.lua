-- repair_keys: looks at groups, aggregation sets, locks and counters again and repairs their breaches of
-- layout.md#invariants, each in one step.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 `1` to write, `0` to tell what would be done, 3 when a set that is listed again is handed
--       back in s, 4 lifetime of the counter of a day in s, then for each key: kind, key
--       kinds: group  a group or aggregation set, lock, counter
-- returns for each key what was done, and a detail:
--       gone; group+ added to the index; group- removed from the index; set+ listed again; lock- removed;
--       end+ ends now; end- has no end now; left, reason: a key of the wrong type, `number`
--       or {WRONGTYPE, key}: refused, nothing was written

local prefix, write = ARGV[1], ARGV[2] == '1'
local bad = misplaced()
if bad then
  return wrong_type(bad)
end

local function mend_group(key)
  local name = string.sub(key, #prefix + 3)
  if redis.call('EXISTS', key) == 0 then
    if redis.call('SISMEMBER', KEYS[8], name) == 0 then
      return 'gone', ''
    elseif write then
      redis.call('SREM', KEYS[8], name)
    end
    return 'group-', ''
  elseif not holds(key, 'zset') then
    return 'left', key
  end
  return index_gathered(name, key, ARGV[3], write) or 'gone', ''
end

local function mend_lock(key)
  if not holds(key, 'string') then
    return 'left', key
  end
  return remove_ownerless(key, write) and 'lock-' or 'gone', ''
end

local function mend_counter(key)
  local found = redis.call('TYPE', key).ok
  if found == 'none' then
    return 'gone', ''
  elseif found ~= 'string' then
    return 'left', key
  end
  local done, number = 'gone', false
  for _, fault in ipairs(counter_faults(string.sub(key, #prefix + 1), key)) do
    if fault == 'no end' then
      done = 'end+'
      if write then
        redis.call('EXPIRE', key, ARGV[4])
      end
    elseif fault == 'an end' then
      done = 'end-'
      if write then
        redis.call('PERSIST', key)
      end
    else
      number = true
    end
  end
  if number then
    return 'left', 'number'
  end
  return done, ''
end

local MEND = { group = mend_group, lock = mend_lock, counter = mend_counter }
local reply = {}
for i = 5, #ARGV, 2 do
  local done, detail = MEND[ARGV[i]](ARGV[i + 1])
  reply[#reply + 1] = done
  reply[#reply + 1] = detail
end
return reply
