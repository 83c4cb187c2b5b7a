-- search_list: searches a list of any length for ids, from the head, a part in each call. Reads only.
--
-- KEYS  1 list
-- ARGV  1 index to begin at, 2 the id that stands before it ('' at index 0), 3 most entries,
--       then the ids
-- returns {index to go on at (-1: done, -2: lost the place, begin anew), id before it, ids found ...}
--
-- The order of a list never changes, and each call continues behind the last entry of the call before. An id
-- that is in the list from the first call to the last is therefore found, whatever is pushed and removed
-- meanwhile. New entries at the head only move the place back.

local most, start = tonumber(ARGV[3]), tonumber(ARGV[1])
local length = redis.pcall('LLEN', KEYS[1])
if type(length) ~= 'number' then
  return { -1, '' }
end
if start > 0 and redis.call('LINDEX', KEYS[1], start - 1) ~= ARGV[2] then
  local first, place = math.max(0, start - 1 - most), nil
  for i, id in ipairs(redis.call('LRANGE', KEYS[1], first, start - 1 + most)) do
    if id == ARGV[2] then
      place = first + i
    end
  end
  if not place then
    return { -2, '' }
  end
  start = place
end
local wanted = {}
for i = 4, #ARGV do
  wanted[ARGV[i]] = true
end
local ids = redis.call('LRANGE', KEYS[1], start, start + most - 1)
local reply = { #ids < most and -1 or start + #ids, ids[#ids] or '' }
for _, id in ipairs(ids) do
  if wanted[id] then
    wanted[id] = nil
    reply[#reply + 1] = id
  end
end
return reply
