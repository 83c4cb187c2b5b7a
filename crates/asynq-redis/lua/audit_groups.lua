-- audit_groups: finds groups in the index that have no tasks, a part in each call. Reads only.
--
-- KEYS  1 groups
-- ARGV  1 queue prefix, 2 cursor ('0' at first), 3 about how many
-- returns {cursor to go on at ('0': done), names ...}

local page = redis.pcall('SSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
if page.err then
  return { '0' }
end
local reply = { page[1] }
for _, group in ipairs(page[2]) do
  if redis.call('EXISTS', ARGV[1] .. 'g:' .. group) == 0 then
    reply[#reply + 1] = group
  end
end
return reply
