-- act_on_these: runs, archives or deletes some tasks that were read before, if they are still the same
-- (transitions.md#act-on-these-tasks).
--
-- KEYS  1 container, 2 pending, 3 archived, 4 groups, 5 aggregation_sets
-- ARGV  1 queue prefix, 2 run, archive or delete, 3 state of the tasks, 4 group ('' if there is none),
--       5 now in s, 6 now in ns, 7 archive cut-off in s, 8 archive limit, 9 most tasks trimmed, 10 number of entries
--       between the first of them and the tail of a list (0 in a sorted set), 11 the same of the last,
--       then for each task: id, score, digest of the message ('' if it has none); in a list the score is
--       pending_since ('' if it has none)
-- returns {number of tasks acted on, number of tasks left alone, number of ids that were only removed, put aside: id,
--       kind ...}; kinds: h not a hash, m no message
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The first write frees memory.

local prefix, act, state, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local container, pending, archived, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local is_list = state == 'pending'
local bad = acts_misfit(container, is_list, act, pending, archived, group, groups)
if bad then
  return wrong_type(bad)
elseif group ~= '' and type(try('ZSCORE', KEYS[5], container)) == 'string' then
  -- An aggregation set, which no group is called like.
  return { 0, (#ARGV - 11) / 3, 0, {} }
end

-- Read.
local wanted, same, moved = {}, {}, 0
for i = 12, #ARGV, 3 do
  local id, score, digest = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local task = try('HMGET', prefix .. 't:' .. id, 'msg', 'pending_since')
  local msg = not task.err and task[1]
  local is_same = digest == (msg and redis.sha1hex(msg) or '')
  if is_same and is_list then
    is_same = score == (not task.err and task[2] or '')
  elseif is_same then
    is_same = call('ZSCORE', container, id) == score
  end
  if is_same and not wanted[id] then
    wanted[id] = true
    same[#same + 1] = id
  else
    moved = moved + 1
  end
end
local ids, places = same, {}
if is_list and #same > 0 then
  ids = {}
  local function look(first, last)
    first = math.max(first, 0)
    local list = call('LRANGE', container, -(last + 1), -(first + 1))
    for i = #list, 1, -1 do
      if wanted[list[i]] then
        wanted[list[i]] = nil
        ids[#ids + 1], places[#places + 1] = list[i], -(first + #list - i + 1)
      end
    end
  end
  local first, last = tonumber(ARGV[10]), tonumber(ARGV[11])
  look(first - 1000, last + 100)
  -- Others have left the list meanwhile, or came back: around the first that is missing, a few times.
  local searched, next_one = 0, 1
  while #ids < #same and searched < 3 and next_one <= #same do
    local id = same[next_one]
    next_one = next_one + 1
    if wanted[id] then
      searched = searched + 1
      local found = call('LPOS', container, id, 'RANK', -1, 'MAXLEN', last + 2000)
      if found then
        found = call('LLEN', container) - 1 - found
        look(found - 300, found + last - first + 100)
      end
    end
  end
  moved = moved + #same - #ids
end
local found = look_at(prefix, state, act, ids)

-- Write.
if #ids > 0 and is_list then
  -- Elements of a list can only be removed by their value. Redis refuses LSET when its memory is full, but not after
  -- another write.
  local removed = '\0removed'
  call('LTRIM', container, 0, -1)
  for _, place in ipairs(places) do
    call('LSET', container, place, removed)
  end
  call('LREM', container, -#places, removed)
elseif #ids > 0 then
  call_each('ZREM', container, ids)
end
if group ~= '' and call('EXISTS', container) == 0 then
  call('SREM', groups, group)
end
carry_out(found, act, prefix, pending, archived)
return { #found.ready, moved, found.dropped, found.aside }
