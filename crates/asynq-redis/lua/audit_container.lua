-- audit_container: checks the ids of one container, a part in each call. Reads only.
--
-- KEYS  1 to 10 as in include/places.lua, 11 container
-- ARGV  1 queue prefix, 2 list or zset, 3 index to begin at, 4 most ids, 5 most bytes of messages (the
--       first excepted)
-- returns {index to go on at (-1: done), for each id: id, kind, state, msg, 1 if it has a lease else 0,
--       1 if it may stand in another container, too, else 0 ...}
--       kinds: n no key, h not a hash, m no message, '' usable
--
-- An id that is only in the container of its hash needs no other check. audit_places.lua checks the others, for
-- example an id in two groups, of which one is not the group in the hash. In a list that is too long to be
-- searched, an id that is unique on its page counts as unique.

local prefix, container, start, most = ARGV[1], KEYS[11], tonumber(ARGV[3]), tonumber(ARGV[4])
local range = ARGV[2] == 'list' and 'LRANGE' or 'ZRANGE'
local ids = redis.pcall(range, container, start, start + most - 1)
if ids.err then
  return { -1 }
end
local reply, bytes, looked = { -1 }, 0, 0
local long = ARGV[2] == 'list' and is_long(container)
for _, id in ipairs(ids) do
  local key = prefix .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'state', 'msg', 'group')
  local kind, state, msg, group = '', '', '', false
  if task.err or not task[2] then
    kind = damage(key)
    state = not task.err and task[1] or ''
  else
    state, msg, group = task[1] or '', task[2], task[3]
  end
  bytes = bytes + #msg
  if (bytes > tonumber(ARGV[5]) or sets_seen > 200) and looked > 0 then
    break
  end
  looked = looked + 1
  if long then
    told[container][id] = 1
  end
  -- A group can have a thousand sets.
  local found = places(id, group, 100)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = id, kind, state, msg
  reply[n + 5] = type(redis.pcall('ZSCORE', KEYS[3], id)) == 'string' and 1 or 0
  reply[n + 6] = (#found == 1 and found[1] == container) and 0 or 1
end
if looked < #ids or #ids == most then
  reply[1] = start + looked
end
return reply
