-- enqueue_tick: creates the task of a tick, if the tick is still to be decided.
--
-- KEYS  1 pending, 2 scheduled, 3 groups, 4 x:tick:<entry>, 5 x:tick:<entry>:<who asks>, 6 archived,
--       7 completed
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 tick in s, 5 gap in s (at least 1),
--       6 how long the mark lives in ms, 7 how long the receipt lives in ms, 8 1: decide, 0: only ask,
--       9 1: an archived or completed task with the id makes room, 0: it is a conflict,
--       then one item as in include/create.lua
-- returns {code, last tick in s or '', damage of the mark or ''}, the codes as in include/create.lua,
--       2 never, and one more: t decided before, or left open by a call that only asks; only then a tick
--       is returned: the last one, or the one of the call if there is none
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The mark is `<tick in s> <x:enq token> <1, d or 0>`. It ends in `s` instead if no tick was decided yet, and
-- its time is then the start of the period. A start after the tick was written by a wrong clock, and is
-- ignored. A lock or an id that is taken decides the tick too. A value that is not a mark is ignored and
-- overwritten.
--
-- The receipt is the mark of the last tick that this scheduler has decided. It returns the decision if the
-- answer was lost and other schedulers have decided later ticks. A task makes room only if its state is
-- archived or completed and it is in the container of its state. A lock of another task has precedence. Under
-- maxmemory Redis refuses the first write, and with it the whole call, unless a task makes room.

local FIRST = 10
local prefix, id, token, at, damage_found = ARGV[1], ARGV[FIRST], create_token(FIRST), tonumber(ARGV[4]), ''
local replaces, decides = ARGV[9] == '1', ARGV[8] == '1'
local bad = create_misfit(FIRST) or (replaces and misfit({ KEYS[6], 'zset', KEYS[7], 'zset' }))
if bad then
  return wrong_type(bad)
end

-- The parts of a mark; nil if the value is not a mark.
local function read(mark)
  if type(mark) ~= 'string' then
    return nil
  end
  local last, by, outcome = string.match(mark, '^(%-?%d+) (%x+) ([1d0s])$')
  if not last or #last > 15 or #by ~= 16 then
    return nil
  end
  return last, by, outcome
end

-- The decision of this request, if it decided the tick before.
local function decided()
  -- The task shows the decision, or the receipt, which outlives the task.
  if redis.pcall('HGET', prefix .. 't:' .. id, 'x:enq') == token then
    return '1'
  end
  local last, by, outcome = read(redis.pcall('GET', KEYS[5]))
  return last and tonumber(last) == at and by == token and outcome or nil
end

local mark = redis.pcall('GET', KEYS[4])
local last, by, outcome = read(mark)
if type(mark) == 'table' then
  damage_found = 'not a string'
elseif mark and not last then
  damage_found = 'not a mark'
elseif last and outcome ~= 's' and tonumber(last) == at and by == token then
  return { outcome, '', '' }
elseif last and at < tonumber(last) + tonumber(ARGV[5]) and (outcome ~= 's' or at >= tonumber(last)) then
  local before = decided()
  if before then
    return { before, '', '' }
  end
  return { 't', last, '' }
end
if not decides then
  local before = decided()
  if before then
    return { before, '', '' }
  end
  return { 't', last or ARGV[4], '' }
end

-- Deletes the task with the id if it is finished, and its lock.
local function make_room()
  local key, width = prefix .. 't:' .. id, WIDTH[create_kind(FIRST)]
  local lock = width > 4 and ARGV[FIRST + width - 2] or nil
  local owner = lock and redis.pcall('GET', lock)
  if owner and owner ~= id then
    return
  end
  local task = redis.pcall('HMGET', key, 'state', 'x:enq', 'unique_key')
  local set = not task.err and task[2] ~= token and ({ archived = KEYS[6], completed = KEYS[7] })[task[1]]
  if set and redis.call('ZREM', set, id) == 1 then
    redis.call('UNLINK', key)
    free_lock(prefix, task[3], id)
    free_lock(prefix, lock, id)
  end
end
if replaces then
  make_room()
end

local code = create(FIRST, 1)
if code == '2' then
  code = '1'
end
local text = ARGV[4] .. ' ' .. token .. ' ' .. code
redis.call('SET', KEYS[4], text, 'PX', ARGV[6])
redis.call('SET', KEYS[5], text, 'PX', ARGV[7])
return { code, '', damage_found }
