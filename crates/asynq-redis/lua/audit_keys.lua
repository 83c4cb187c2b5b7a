-- audit_keys: checks the keys of a queue, a part in each call. Reads only.
--
-- KEYS  as in include/places.lua
-- ARGV  1 queue prefix, 2 pattern of the queue's keys, 3 cursor of SCAN, 4 about how many keys of the
--       database to look at, 5 how much longer than the tasks next to run another one waits before it is doubted, in ns
-- returns {cursor to go on at ('0': done), number of keys of the queue, one that does not expire by itself ('': none),
--       findings ...}, a finding is one of
--       {unlisted, id, state, pending_since}
--                               a task that may stand in no container; audit_places.lua looks further
--       {since, id, state}      pending_since does not fit the state
--       {gathered, key}         a group or aggregation set, whose ids are to be looked at
--       {group, name}           a group with tasks that is not in the index
--       {set, key}              an aggregation set that is not listed
--       {lock, key, id}         a lock without owner
--       {counter, key, problem} problem: as in include/counter_faults.lua
--       {type, key, found}      a key of the wrong type

local prefix = ARGV[1]
local TYPES = {
  pending = 'list', active = 'list', lease = 'zset', scheduled = 'zset', retry = 'zset', archived = 'zset',
  completed = 'zset', groups = 'set', aggregation_sets = 'zset', paused = 'string', processed = 'string',
  failed = 'string', ['x:quarantine'] = 'zset', ['x:finished'] = 'zset',
  ['x:healer'] = 'string', ['x:heal'] = 'string',
}
-- Keys of the repairs, which expire by themselves, as the marks of ticks and statistics do.
local PASSING = { ['x:healer'] = true, ['x:heal'] = true }
local reply = {}

local function look_at_task(id, key)
  local task = redis.call('HMGET', key, 'state', 'group', 'pending_since')
  local state = task[1] or ''
  if (task[3] and true or false) ~= (state == 'pending') then
    reply[#reply + 1] = { 'since', id, state }
  end
  if stands_there(id, state, task[2] or '', task[3] or '', tonumber(ARGV[5])) == false then
    reply[#reply + 1] = { 'unlisted', id, state, task[3] or '' }
  end
end

local function look_at_group(name, key)
  reply[#reply + 1] = { 'gathered', key }
  if type(redis.pcall('ZSCORE', KEYS[9], key)) == 'string' or redis.pcall('SISMEMBER', KEYS[8], name) == 1 then
    return
  end
  if is_set(name, key) then
    reply[#reply + 1] = { 'set', key }
  else
    reply[#reply + 1] = { 'group', name }
  end
end

local function look_at_counter(suffix, key)
  for _, fault in ipairs(counter_faults(suffix, key)) do
    reply[#reply + 1] = { 'counter', key, fault }
  end
end

local page = redis.call('SCAN', ARGV[3], 'MATCH', ARGV[2], 'COUNT', ARGV[4])
reply[1], reply[2], reply[3] = page[1], 0, ''
local done = {}
for _, key in ipairs(page[2]) do
  if not done[key] and string.sub(key, 1, #prefix) == prefix then
    done[key] = true
    local suffix = string.sub(key, #prefix + 1)
    local is_task, is_group = string.sub(suffix, 1, 2) == 't:', string.sub(suffix, 1, 2) == 'g:'
    local is_lock = string.sub(suffix, 1, 7) == 'unique:'
    local is_count = string.match(suffix, '^processed') or string.match(suffix, '^failed')
    local is_mark, is_statistics = string.sub(suffix, 1, 7) == 'x:tick:', string.sub(suffix, 1, 8) == 'x:stats:'
    reply[2] = reply[2] + 1
    if not PASSING[suffix] and not is_mark and not is_statistics then
      reply[3] = key
    end
    local want = ((is_task or is_statistics) and 'hash') or (is_group and 'zset') or (is_lock and 'string') or TYPES[suffix]
      or ((is_count or is_mark) and 'string')
    local found = redis.call('TYPE', key).ok
    if found == 'none' then
      -- The key has expired meanwhile.
    elseif want and found ~= want then
      reply[#reply + 1] = { 'type', key, found }
    elseif is_task then
      look_at_task(string.sub(suffix, 3), key)
    elseif is_group then
      look_at_group(string.sub(suffix, 3), key)
    elseif is_lock then
      local id = redis.call('GET', key)
      if redis.call('EXISTS', prefix .. 't:' .. id) == 0 then
        reply[#reply + 1] = { 'lock', key, id }
      end
    elseif is_count then
      look_at_counter(suffix, key)
    end
  end
end
return reply
