-- audit_container: looks at the ids of one container, a part in each call. Reads only.
--
-- KEYS  1 to 9 as in include/places.lua, 10 container
-- ARGV  1 queue prefix, 2 list or zset, 3 index to begin at, 4 most ids, 5 most bytes of messages (the
--       first excepted)
-- returns {index to go on at (-1: done), for each id: id, kind, state, msg, 1 if it has a lease else 0,
--       keys of all its containers if it stands in several, told once, else none ...}
--       kinds: n no key, h not a hash, m no message, '' usable

local prefix, container, start, most = ARGV[1], KEYS[10], tonumber(ARGV[3]), tonumber(ARGV[4])
local range = ARGV[2] == 'list' and 'LRANGE' or 'ZRANGE'
local ids = redis.pcall(range, container, start, start + most - 1)
if ids.err then
  return { -1 }
end
local reply, bytes, looked = { -1 }, 0, 0
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
  if bytes > tonumber(ARGV[5]) and looked > 0 then
    break
  end
  looked = looked + 1
  -- Told once: by the first of the containers, or by a group that the hash does not name.
  local found, named = places(id, group), false
  for _, place in ipairs(found) do
    named = named or place == container
  end
  if not named then
    found[#found + 1] = container
  end
  if #found < 2 or (named and found[1] ~= container) then
    found = {}
  end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = id, kind, state, msg
  reply[n + 5] = type(redis.pcall('ZSCORE', KEYS[3], id)) == 'string' and 1 or 0
  reply[n + 6] = found
end
if looked < #ids or #ids == most then
  reply[1] = start + looked
end
return reply
