-- queue_facts: reads the facts about a queue that findings are made of. Reads only.
--
-- KEYS  1 pending, 2 active, 3 scheduled, 4 retry, 5 archived, 6 completed, 7 lease, 8 x:quarantine, 9 groups,
--       10 paused, 11 processed:<today>, 12 failed:<today>, 13 processed:<yesterday>, 14 failed:<yesterday>
-- ARGV  1 queue prefix, 2 time in s: an earlier one is late, 3 most ids of active and lease to look at,
--       4 most groups to look at
-- returns {lengths of 1 to 9, 1 if paused else 0, values of 10 to 14 ('' if there is none or it cannot be
--       read), pending_since in ns of the task that runs next ('' if not known), number of late scheduled and
--       retry tasks, number of late leases without stale ones, id of the first lease that is not stale, its end in s,
--       time of the first archived task in s ('' if there is none), {active ids without a lease}, {ids of stale
--       leases: those without an active task},
--       {for each group with tasks: name, number of tasks, time of the first one in s}}
--       or {WRONGTYPE, key}: refused

local bad = misfit({
  KEYS[1], 'list', KEYS[2], 'list', KEYS[3], 'zset', KEYS[4], 'zset', KEYS[5], 'zset', KEYS[6], 'zset',
  KEYS[7], 'zset', KEYS[8], 'zset', KEYS[9], 'set',
})
if bad then
  return wrong_type(bad)
end
local tasks, ids, late = ARGV[1] .. 't:', tonumber(ARGV[3]), '(' .. ARGV[2]
local reply = {}

local function add(value)
  reply[#reply + 1] = value
end

local function text(value)
  return type(value) == 'string' and value or ''
end

for i = 1, 9 do
  add(call((i <= 2 and 'LLEN') or (i == 9 and 'SCARD') or 'ZCARD', KEYS[i]))
end
add(call('EXISTS', KEYS[10]))
for i = 10, 14 do
  add(text(try('GET', KEYS[i])))
end
local next_id = call('LINDEX', KEYS[1], -1)
add(next_id and text(try('HGET', tasks .. next_id, 'pending_since')) or '')
add(call('ZCOUNT', KEYS[3], '-inf', late) + call('ZCOUNT', KEYS[4], '-inf', late))

local unleased, stale = {}, {}
for _, id in ipairs(call('LRANGE', KEYS[2], -ids, -1)) do
  if not call('ZSCORE', KEYS[7], id) then
    unleased[#unleased + 1] = id
  end
end
local ended, first, ends = call('ZCOUNT', KEYS[7], '-inf', late), '', ''
local leases = call('ZRANGE', KEYS[7], 0, ids - 1, 'WITHSCORES')
for i = 1, #leases, 2 do
  local id, score = leases[i], leases[i + 1]
  if try('HGET', tasks .. id, 'state') ~= 'active' then
    stale[#stale + 1] = id
    if tonumber(score) < tonumber(ARGV[2]) then
      ended = ended - 1
    end
  elseif first == '' then
    first, ends = id, score
  end
end
local archived = call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
add(ended)
add(first)
add(ends)
add(archived[2] or '')
add(unleased)
add(stale)

local groups = {}
for _, group in ipairs(call('SRANDMEMBER', KEYS[9], ARGV[4])) do
  local key = ARGV[1] .. 'g:' .. group
  local first = try('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[1] then
    local n = #groups
    groups[n + 1], groups[n + 2], groups[n + 3] = group, call('ZCARD', key), first[2]
  end
end
add(groups)
return reply
