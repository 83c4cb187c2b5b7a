-- include: outcomes. Shared by exchange.lua and recover.lua, which differ in the fence alone.
-- Needs chunks.lua, lock.lua, archive.lua, count.lua, exact.lua.
--
-- KEYS  1 pending, 2 active, 3 lease, 4 retry, 5 archived, 6 completed,
--       7 processed:<day>, 8 failed:<day>, 9 processed, 10 failed
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 when new day counters end in s,
--       5 archive cut-off in s, 6 archive limit, 7 most tasks trimmed from the archive,
--       8 most list entries searched by LREM (rules.md#bounded-calls)
-- items id, fence, kind and what belongs to the kind:
--       d lock             done: delete the task, free the lock
--       c lock, score, msg completed: keep it until score
--       r counts, at, msg  retry at `at`, as in include/exact.lua; counts 1: a failure
--       a msg              archive
--       q                  back to the front of pending
--       Where the run was asked to end (x:cancel, with the token of x:take), all but d and c are written as
--       that request says: archived, deleted with the lock that the hash names, or as they are.
-- codes one character an item: 1 written, 0 not ours, h the task key is not a hash, s its state is
--       missing or unknown, + not looked at, offer it again (the call's bound was reached)

-- How an outcome is written, by its kind: as it is, as `a`, or as `x`, deleted.
local ASKED = { archive = 'a', delete = 'x' }
local function as_asked(kind, request, take)
  if not request or not take or kind == 'd' or kind == 'c' then
    return kind
  end
  local what, of = string.match(request, '^(%a+) (.*)$')
  return of == take and ASKED[what] or kind
end

local WIDTH = { d = 4, c = 6, r = 6, a = 4, q = 3 }
local STATES = {
  active = true, pending = true, scheduled = true, retry = true, archived = true, completed = true, aggregating = true,
}

-- Writes the outcomes of `n` items that begin at ARGV[first]. `holds_fence(fence, take, score)` says
-- whether an active task is the caller's; score is nil where there is no lease.
-- Returns the codes, whether some were not looked at, where the items end, and a note on counters.
-- On a container of the wrong type it returns nil and the key, and has written nothing.
local function settle(first, n, holds_fence)
  local prefix, active, lease = ARGV[1], KEYS[2], KEYS[3]
  if n == 0 then
    return '', false, first, ''
  end

  -- Look: at the containers that will be written to, and at each item's fence.
  local length = redis.pcall('LLEN', active)
  if type(length) == 'table' then
    return nil, active
  end
  local at, ids, used, pos = {}, {}, {}, first
  for i = 1, n do
    local kind = ARGV[pos + 2]
    at[i], ids[i] = pos, ARGV[pos]
    used[kind] = true
    pos = pos + WIDTH[kind]
  end
  local bad = (used.q and misfit({ KEYS[1], 'list' })) or (used.r and misfit({ KEYS[4], 'zset' }))
    or (used.a and misfit({ KEYS[5], 'zset' })) or (used.c and misfit({ KEYS[6], 'zset' }))
  if bad then
    return nil, bad
  end
  local scores = redis.pcall('ZMSCORE', lease, unpack(ids))
  if scores.err then
    return nil, lease
  end
  local codes, kinds, archives = {}, {}, false
  for i = 1, n do
    local task = redis.pcall('HMGET', prefix .. 't:' .. ids[i], 'x:take', 'state', 'x:cancel')
    if task.err then
      codes[i] = 'h'
    elseif not holds_fence(ARGV[at[i] + 1], task[1], scores[i] and tonumber(scores[i])) then
      codes[i] = '0'
    elseif task[2] == 'active' then
      codes[i] = '1'
      kinds[i] = as_asked(ARGV[at[i] + 2], task[3], task[1])
      archives = archives or kinds[i] == 'a'
    else
      codes[i] = task[1] and not STATES[task[2]] and 's' or '0'
    end
  end
  if archives and misfit({ KEYS[5], 'zset' }) then
    return nil, KEYS[5]
  end

  -- Write: out of active first. It frees memory, so it runs under maxmemory too, and it shows
  -- whether the id stood there at all; if not, nothing else of the item is touched.
  -- An id that stands there twice is ended once.
  local left, ended, steps, later = {}, {}, 0, false
  for i = 1, n do
    if codes[i] == '1' and ended[ids[i]] then
      codes[i] = '0'
    elseif codes[i] == '1' then
      local id, from = ids[i], -1
      if steps > tonumber(ARGV[8]) then
        codes[i], later = '+', true
      else
        if length > 512 then
          -- Oldest first is usual; but old long tasks may fill the tail.
          local index = redis.call('LPOS', active, id, 'RANK', -1, 'MAXLEN', 256)
          local head = not index and redis.call('LPOS', active, id, 'MAXLEN', 256)
          if index then
            steps = steps + 2 * (length - #left - index)
          elseif head then
            from, steps = 1, steps + 256 + 2 * head
          else
            steps = steps + length
          end
        end
        if redis.call('LREM', active, from, id) == 0 then
          codes[i] = '0'
        else
          left[#left + 1] = id
          ended[id] = true
        end
      end
    end
  end
  if #left == 0 then
    return table.concat(codes), later, pos, ''
  end
  redis.call('ZREM', lease, unpack(left))

  local gone, ends, pending, retry, archived, completed = {}, {}, {}, {}, {}, {}
  local function write(id, state, msg)
    local key = prefix .. 't:' .. id
    redis.call('HSET', key, 'state', state)
    if msg then
      redis.call('HSET', key, 'msg', msg)
    end
    redis.call('HDEL', key, 'pending_since', 'x:take', 'x:adopt', 'x:cancel', 'x:unstarted', 'x:at')
  end
  for i = 1, n do
    if codes[i] == '1' then
      local p, id, kind = at[i], ids[i], kinds[i]
      if kind == 'd' then
        gone[#gone + 1] = prefix .. 't:' .. id
        ends[#ends + 1] = false
        free_lock(prefix, ARGV[p + 3], id)
      elseif kind == 'c' then
        completed[#completed + 1] = ARGV[p + 4]
        completed[#completed + 1] = id
        write(id, 'completed', ARGV[p + 5])
        ends[#ends + 1] = false
        free_lock(prefix, ARGV[p + 3], id)
      elseif kind == 'r' then
        local score, exact = time_sent(ARGV[p + 4])
        retry[#retry + 1] = score
        retry[#retry + 1] = id
        write(id, 'retry', ARGV[p + 5])
        if exact then
          redis.call('HSET', prefix .. 't:' .. id, 'x:at', exact)
        end
        if ARGV[p + 3] == '1' then
          ends[#ends + 1] = true
        end
      elseif kind == 'x' then
        local key = prefix .. 't:' .. id
        gone[#gone + 1] = key
        ends[#ends + 1] = false
        free_lock(prefix, redis.call('HGET', key, 'unique_key'), id)
      elseif kind == 'a' then
        archived[#archived + 1] = ARGV[2]
        archived[#archived + 1] = id
        -- One that was given back keeps the message that it has.
        local sent = ARGV[p + 2]
        write(id, 'archived', sent == 'r' and ARGV[p + 5] or sent == 'a' and ARGV[p + 3])
        ends[#ends + 1] = true
      else
        local key = prefix .. 't:' .. id
        pending[#pending + 1] = id
        redis.call('HSET', key, 'state', 'pending', 'pending_since', ARGV[3])
        redis.call('HDEL', key, 'x:take', 'x:adopt', 'x:cancel', 'x:at')
      end
    end
  end
  unlink_all(gone)
  if #completed > 0 then
    redis.call('ZADD', KEYS[6], unpack(completed))
  end
  if #retry > 0 then
    redis.call('ZADD', KEYS[4], unpack(retry))
  end
  if #pending > 0 then
    redis.call('RPUSH', KEYS[1], unpack(pending))
  end
  if #archived > 0 then
    redis.call('ZADD', KEYS[5], unpack(archived))
    trim_archive(prefix, KEYS[5], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]))
  end
  local note = count({ KEYS[7], KEYS[8], KEYS[9], KEYS[10] }, ends, ARGV[4])
  return table.concat(codes), later, pos, note
end
