-- recover: takes tasks whose lease ended from their dead owners (transitions.md#retry, transitions.md#archive,
-- transitions.md#requeue).
--
-- KEYS  1 pending; the others are of the same queue, by their prefix
-- ARGV  1 to 4 as in include/settle.lua, then what it calls more; an item's fence is the lease in s that was seen, a
--       space, and when the task last failed in s
-- returns {codes, note on counters}; codes as in include/settle.lua
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The script checks the lease of each item again. A task whose owner is alive after all, or that another server
-- recovered, answers 0. A fraction in the score of another program's lease was dropped when it was read. A task
-- that goes back to pending has not started, and the script counts this.
--
-- A Go server leaves x:take and x:cancel as they are. If the task has failed after the lease in the token, a Go
-- server recovered and took it, and the request was for the run before.

local ids, kinds, at = {}, {}, {}
read_items(5, ids, kinds, at)
local codes, later, note = settle(ids, kinds, at, 5, function(i, _, score)
  return score and math.floor(score) == tonumber(string.match(ARGV[at[i] + 1], '^%-?%d+'))
end, nil, function(i, take)
  local taken_until = tonumber(string.match(take, '@(%d+)$'))
  return taken_until and tonumber(string.match(ARGV[at[i] + 1], '%-?%d+$')) >= taken_until
end)
if not codes then
  return wrong_type(later)
end
for i = 1, #codes do
  local key = ARGV[1] .. 't:' .. ids[i]
  -- A request to cancel the run may have archived or deleted the task.
  if kinds[i] == 'q' and string.sub(codes, i, i) == '1' and redis.call('HGET', key, 'state') == 'pending' then
    redis.call('HSET', key, 'x:unstarted', (tonumber(redis.call('HGET', key, 'x:unstarted') or '') or 0) + 1)
  end
end
return { codes, note }
