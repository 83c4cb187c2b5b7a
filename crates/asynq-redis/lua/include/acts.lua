-- include: acts on many tasks. Needs container.lua, aside.lua, chunks.lua, lock.lua and archive.lua, and ARGV 5 to 9: now
-- in s, now in ns, archive cut-off in s, archive limit, most tasks trimmed.

local STATES = {
  active = true, pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}

-- The first key that holds another type than the layout says, or nil.
local function acts_misfit(container, is_list, act, pending, archived, group, groups)
  return misfit({
    container, is_list and 'list' or 'zset', act == 'run' and pending or container,
    (act == 'run' or is_list) and 'list' or 'zset',
  }) or act == 'archive' and misfit({ archived, 'zset' }) or group ~= '' and misfit({ groups, 'set' }) or nil
end

-- Looks at the tasks of some ids: `ready` to be acted on, with their `keys` and `locks`; `aside` (id, kind, ...) because
-- they are damaged; `dropped`, the number of those that have no task, or one in another state.
local function look_at(prefix, state, act, ids)
  local ready, keys, locks, aside, dropped = {}, {}, {}, {}, 0
  for _, id in ipairs(ids) do
    local key = prefix .. 't:' .. id
    local task = try('HMGET', key, 'state', 'unique_key')
    local damaged = task.err and 'h' or call('HEXISTS', key, 'msg') == 0 and damage(key)
    if damaged == 'n' or not task.err and task[1] ~= state and STATES[task[1]] then
      dropped = dropped + 1
    elseif damaged and act ~= 'delete' then
      aside[#aside + 1] = id
      aside[#aside + 1] = damaged
    else
      ready[#ready + 1], keys[#keys + 1] = id, key
      locks[#locks + 1] = not task.err and task[2]
    end
  end
  return { ready = ready, keys = keys, locks = locks, aside = aside, dropped = dropped }
end

-- Changes the tasks that have left their container.
local function carry_out(found, act, prefix, pending, archived)
  local ready, keys, aside, now = found.ready, found.keys, found.aside, ARGV[5]
  for i = 1, #aside, 2 do
    put_aside(prefix, aside[i], now)
  end
  if act == 'delete' then
    unlink_all(keys)
    for i, id in ipairs(ready) do
      free_lock(prefix, found.locks[i], id)
    end
  elseif act == 'run' then
    for _, key in ipairs(keys) do
      call('HSET', key, 'state', 'pending', 'pending_since', ARGV[6])
      call('HDEL', key, 'group', 'x:take', 'x:adopt', 'x:cancel', 'x:at')
    end
    call_each('LPUSH', pending, ready)
  elseif #ready > 0 then
    local entries = {}
    for i, key in ipairs(keys) do
      call('HSET', key, 'state', 'archived')
      call('HDEL', key, 'pending_since', 'group', 'x:take', 'x:adopt', 'x:cancel', 'x:at', 'x:unstarted')
      entries[2 * i - 1], entries[2 * i] = now, ready[i]
    end
    call_each('ZADD', archived, entries)
    trim_archive(prefix, archived, ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]))
  end
end
