-- audit_container: checks the ids of one container, a part in each call. Reads only.
--
-- KEYS  1 to 10 as in include/places.lua, 11 container
-- ARGV  1 queue prefix, 2 list or zset, 3 and 4 place at which to go on: see include/resume.lua ('' at first),
--       5 most ids, 6 most bytes of messages (the first excepted)
-- returns {1 done else 0, place at which to go on: two texts,
--       for each id: id, kind, state, pending_since, msg, 1 if it has a lease else 0,
--       1 if it may stand in another container, too, else 0 ...}
--       kinds: n no key, h not a hash, m no message, '' usable
--
-- An id that is only in the container of its hash needs no other check. audit_places.lua checks the others, for
-- example an id in two groups, of which one is not the group in the hash. In a list that is too long to be
-- searched, an id that is unique on its page counts as unique.

local prefix, container, is_list, most = ARGV[1], KEYS[11], ARGV[2] == 'list', tonumber(ARGV[5])
local kind_of = redis.call('TYPE', container).ok
if kind_of ~= ARGV[2] then
  return { 1, '', '' }
end
local start
if is_list then
  start = index_behind(container, ARGV[3], ARGV[4], most)
else
  start = rank_behind(container, ARGV[3], ARGV[4])
end
local ids = redis.call(is_list and 'LRANGE' or 'ZRANGE', container, start, start + most - 1)
local reply, bytes, looked, last = { 1, '', '' }, 0, 0, ''
local long = is_list and is_long(container)
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'msg', 'group', 'pending_since')
  local kind, state, msg, group, since = '', '', '', false, ''
  if task.err or not task[2] then
    kind = damage(key)
    state = not task.err and task[1] or ''
  else
    state, msg, group, since = task[1] or '', task[2], task[3], task[4] or ''
  end
  bytes = bytes + #msg
  if (bytes > tonumber(ARGV[6]) or sets_seen > 200) and looked > 0 then
    break
  end
  looked, last = looked + 1, id
  if long then
    told[container][id] = (told[container][id] or 0) + 1
  end
  -- A group can have a thousand sets.
  local found = places(id, group, 100)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, kind, state, since, msg
  reply[n + 6] = type(redis.pcall('ZSCORE', KEYS[3], id)) == 'string' and 1 or 0
  reply[n + 7] = (#found == 1 and found[1] == container) and 0 or 1
end
if looked < #ids or #ids == most then
  reply[1], reply[3] = 0, last
  if is_list then
    reply[2] = tostring(redis.call('LLEN', container) - start - looked)
  else
    reply[2] = redis.call('ZSCORE', container, last)
  end
end
return reply
