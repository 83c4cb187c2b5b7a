-- include: an earlier search of a long `pending`, by search_list.lua. Needs places.lua
--
-- The result is valid while the state and pending_since of the task are unchanged, because a program that puts a task
-- into `pending` writes both. Only Go's servers that give a task back write no time, and they put it at the tail.

-- Whether the earlier search is still valid.
local function is_as_seen(id, task, state, since, times)
  return times ~= '' and (task[1] or '') == state and (task[3] or '') == since
    and (times ~= '0' or not redis.call('LPOS', KEYS[1], id, 'RANK', -1, 'MAXLEN', 1000))
end
