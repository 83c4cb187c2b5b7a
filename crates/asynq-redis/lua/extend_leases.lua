-- extend_leases: extends the leases of running tasks (transitions.md#extend-leases).
--
-- KEYS  1 lease
-- ARGV  1 queue prefix, 2 new lease in s, 3 number of fences, then for each: token, highest lease
--       written in s; then number of items, then for each: id, number of its fence from 1
-- returns {codes, for each code 2 in order: the lease in force in s ..., number of each item from 1 whose run
--       was asked to end (x:cancel) ...}; codes are one character an item:
--       1 extended, 2 ours and above the new lease already, 3 ours and without a lease, 0 not ours,
--       h the task key is not a hash, s its state is missing or unknown
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The fence is that of exchange.lua. An extension never shortens a lease (GT) and never creates one (XX). If
-- the lease is missing, the task is still ours, under the lease that we wrote before. heal.lua creates a new
-- lease, which the next extension finds.

local STATES = {
  pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}
local prefix, lease = ARGV[1], KEYS[1]
local first = 4 + 2 * tonumber(ARGV[3])
local n = tonumber(ARGV[first])
local ids = {}
for i = 1, n do
  ids[i] = ARGV[first + 2 * i - 1]
end
local scores = redis.pcall('ZMSCORE', lease, unpack(ids))
if scores.err then
  return wrong_type(lease)
end
local codes, extended, asked, reply = {}, {}, {}, { '' }
for i = 1, n do
  local id, fence = ids[i], 2 + 2 * tonumber(ARGV[first + 2 * i])
  local task = redis.pcall('HMGET', prefix .. 't:' .. id, 'x:take', 'state', 'x:cancel')
  local code = '0'
  if task.err then
    code = 'h'
  elseif task[2] == 'active' and task[1] == ARGV[fence] then
    if not scores[i] then
      code = '3'
    elseif tonumber(scores[i]) <= tonumber(ARGV[fence + 1]) then
      if tonumber(scores[i]) > tonumber(ARGV[2]) then
        code = '2'
        reply[#reply + 1] = scores[i]
      else
        code = '1'
        extended[#extended + 1] = ARGV[2]
        extended[#extended + 1] = id
      end
    end
  elseif task[1] == ARGV[fence] and task[2] ~= 'active' and not STATES[task[2]] then
    code = 's'
  end
  codes[i] = code
  if task[3] and (code == '1' or code == '2' or code == '3') and string.match(task[3], '^%a+ (.*)$') == task[1] then
    asked[#asked + 1] = i
  end
end
if #extended > 0 then
  -- A write that frees memory, so that the rest is allowed under maxmemory.
  redis.call('ZREM', lease, '')
  redis.call('ZADD', lease, 'XX', 'GT', unpack(extended))
end
reply[1] = table.concat(codes)
for _, number in ipairs(asked) do
  reply[#reply + 1] = number
end
return reply
