-- enqueue_tick: creates the task of a tick, if the tick is still to be decided.
--
-- KEYS  1 pending, 2 scheduled, 3 groups, 4 x:tick:<entry>
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 tick in s, 5 gap in s (at least 1),
--       6 how long the mark lives in ms, then one item as in include/create.lua
-- returns {code, last tick in s or '', damage of the mark or ''}, the codes as in include/create.lua,
--       2 never, and one more: t decided before; only then the last tick is told
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The mark is `<tick in s> <x:enq token> <1, d or 0>`. A lock or an id that is taken decides the tick
-- too. What is not a mark counts as none and is written over. Under maxmemory Redis refuses the first
-- write, and with it the whole call.

local bad = create_misfit(7, 1)
if bad then
  return wrong_type(bad)
end

local token, at, damage = ARGV[9], tonumber(ARGV[4]), ''
local mark = redis.pcall('GET', KEYS[4])
if type(mark) == 'table' then
  damage = 'not a string'
elseif mark then
  local last, by, outcome = string.match(mark, '^(%-?%d+) (%x+) ([1d0])$')
  if not last or #last > 15 or #by ~= 16 then
    damage = 'not a mark'
  elseif tonumber(last) == at and by == token then
    return { outcome, '', '' }
  elseif at < tonumber(last) + tonumber(ARGV[5]) then
    -- A later tick may have been decided since our first attempt; then the task tells.
    if redis.pcall('HGET', ARGV[1] .. 't:' .. ARGV[7], 'x:enq') == token then
      return { '1', '', '' }
    end
    return { 't', last, '' }
  end
end

local code = create(7, 1)
if code == '2' then
  code = '1'
end
redis.call('SET', KEYS[4], ARGV[4] .. ' ' .. token .. ' ' .. code, 'PX', ARGV[6])
return { code, '', damage }
