-- include: trimming of the archive. Needs chunks.lua and lock.lua.

-- Deletes tasks archived at or before `cutoff`, then the oldest until fewer than `most` are left, as Go does.
-- One call deletes at most `bound` tasks; the next call continues. A hash whose task is in another container by
-- now is kept.
local function trim_archive(prefix, archived, cutoff, most, bound)
  local ids = redis.call('ZRANGEBYSCORE', archived, '-inf', cutoff, 'LIMIT', 0, bound)
  if #ids < bound then
    local over = redis.call('ZCARD', archived) - (most - 1)
    if over > #ids then
      ids = redis.call('ZRANGE', archived, 0, math.min(over, bound) - 1)
    end
  end
  if #ids == 0 then
    return
  end
  local gone = {}
  for _, id in ipairs(ids) do
    local key = prefix .. 't:' .. id
    local task = redis.pcall('HMGET', key, 'state', 'unique_key')
    if not task.err and task[1] == 'archived' then
      gone[#gone + 1] = key
      free_lock(prefix, task[2], id)
    end
  end
  call_each('ZREM', archived, ids)
  unlink_all(gone)
end
