-- include: outcomes. Shared by exchange.lua and recover.lua, which differ in the fence alone.
-- Needs container.lua, chunks.lua, lock.lua, active.lua, archive.lua, count.lua, exact.lua.
--
-- ARGV  1 queue prefix, 2 now in s, 3 when new day counters end in s, 4 the day, as in processed:<day>
-- more  what only some outcomes need, from ARGV[more] on: now in ns, archive cut-off in s, archive limit,
--       most tasks trimmed from the archive, number of items, then the items:
-- items id, fence, kind and what belongs to the kind:
--       d lock                  done: delete the task, free the lock
--       c run, lock, score, msg completed: keep it until score
--       r run, counts, at, msg  retry at `at`, as in include/exact.lua; counts 1: a failure
--       a run, msg              archive
--       q run                   back to the front of pending
--       run is added to x:runs behind the kind that is written, and '' adds nothing (ours.md#runs-of-a-task)
--       Where the run was asked to end (x:cancel, with the token of x:take), all but d and c are written as
--       that request says: archived, deleted with the lock that the hash names, or as they are. One that was to go
--       back to pending is archived with the error of a cancelled run.
-- codes one character an item: 1 written, 0 not ours, h the task key is not a hash, s its state is
--       missing or unknown, + not looked at, offer it again (the call's bound was reached)

-- How an outcome other than d and c is written: as its kind says, as `a`, or as `x`, deleted.
local function as_asked(kind, request, take)
  local what, of = string.match(request, '^(%a+) (.*)$')
  if of ~= take then
    return kind
  end
  return what == 'archive' and 'a' or what == 'delete' and 'x' or kind
end

-- A number as a varint of protobuf.
local function varint(number)
  local bytes = ''
  while number >= 128 do
    bytes = bytes .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return bytes .. string.char(number)
end

-- A message that failed with the error of a cancelled run, and no retry used: fields that come again at the end of a
-- message take the place of those before. These are error_msg (7) and last_failed_at (11).
local function cancelled(msg, now)
  local text = 'context canceled'
  return msg and msg .. '\58' .. varint(#text) .. text .. '\88' .. varint(tonumber(now))
end

-- Whether a text is the name of a state.
local function is_state(text)
  return text == 'active' or text == 'pending' or text == 'scheduled' or text == 'retry' or text == 'archived'
    or text == 'completed' or text == 'aggregating'
end

-- Adds the items from ARGV[more + 5] on to lists of their ids, their kinds and where their arguments begin.
local function read_items(more, ids, kinds, at)
  local width = { d = 4, c = 7, r = 7, a = 5, q = 4 }
  local n, pos = #ids, more + 5
  for i = n + 1, n + tonumber(ARGV[more + 4]) do
    ids[i], kinds[i], at[i] = ARGV[pos], ARGV[pos + 2], pos
    pos = pos + width[kinds[i]]
  end
end

-- The first container that some kinds are written to and that holds another type, or nil.
local function refuser(kinds)
  local used = {}
  for i = 1, #kinds do
    used[kinds[i]] = true
  end
  local prefix = ARGV[1]
  return used.q and misfit({ KEYS[1], 'list' }) or used.r and misfit({ prefix .. 'retry', 'zset' })
    or used.a and misfit({ prefix .. 'archived', 'zset' }) or used.c and misfit({ prefix .. 'completed', 'zset' })
    or nil
end

-- Writes the outcomes of items. `of_caller(i, take, score)` says whether an active task is the caller's; score is nil
-- where there is no lease, or where none of the leases is above `lowest`, which may be nil. `is_over(i, take)`, which
-- may be nil, says whether the run that was taken with this token is over, and a Go server has run the task since.
-- Returns the codes, whether some were not looked at, and a note on counters. On a container of the wrong type it
-- returns nil and the key, and has written nothing.
local function settle(ids, kinds, at, more, of_caller, lowest, is_over)
  local n, prefix = #ids, ARGV[1]
  local active, lease = prefix .. 'active', prefix .. 'lease'

  -- Look: at the containers that will be written to, and at each item's fence.
  local bad = more and refuser(kinds)
  if bad then
    return nil, bad
  end
  -- Most often all are below, and one number tells it.
  local above = lowest and try('ZCOUNT', lease, '(' .. lowest, '+inf')
  local scores = above ~= 0 and try('ZMSCORE', lease, unpack(ids)) or {}
  if scores.err then
    return nil, lease
  end
  local codes, keys, runs, wanted, found, archives = {}, {}, {}, {}, 0, false
  for i = 1, n do
    local id = ids[i]
    local key, kind = prefix .. 't:' .. id, kinds[i]
    local task
    if kind == 'd' then
      task = try('HMGET', key, 'x:take', 'state')
    else
      task = try('HMGET', key, 'x:take', 'state', 'x:cancel', 'x:runs')
    end
    if task.err then
      codes[i] = 'h'
    elseif not of_caller(i, task[1], scores[i] and tonumber(scores[i])) then
      codes[i] = '0'
    elseif task[2] ~= 'active' then
      codes[i] = task[1] and not (task[2] and is_state(task[2])) and 's' or '0'
    elseif wanted[id] then
      -- An id that comes twice is ended once.
      codes[i] = '0'
    else
      wanted[id] = i
      keys[i] = key
      if task[4] then
        runs[i] = task[4]
      end
      found = found + 1
      if kind ~= 'c' and task[3] and task[1] and not (is_over and is_over(i, task[1])) then
        kinds[i] = as_asked(kind, task[3], task[1])
        archives = archives or kinds[i] == 'a'
      end
    end
  end
  if found == 0 then
    return table.concat(codes), false, ''
  end
  if archives and misfit({ prefix .. 'archived', 'zset' }) then
    return nil, prefix .. 'archived'
  end

  -- Write: out of active first. It frees memory, so it runs under maxmemory too, and it shows
  -- whether the id stood there at all; if not, nothing else of the item is touched.
  local out, later = take_out(active, wanted, found, ids, codes)
  if not out then
    return nil, active
  end
  if #out == 0 then
    return table.concat(codes), later, ''
  end
  call('ZREM', lease, unpack(out))

  local gone, ends, pending, retry, archived, completed = {}, {}, {}, {}, {}, {}
  local function write(key, state, msg, record)
    local fields = { 'state', state }
    if msg then
      fields[3], fields[4] = 'msg', msg
    end
    if record then
      fields[#fields + 1] = 'x:runs'
      fields[#fields + 1] = record
    end
    call('HSET', key, unpack(fields))
    call('HDEL', key, 'pending_since', 'x:take', 'x:adopt', 'x:cancel', 'x:unstarted', 'x:at')
  end
  for i = 1, n do
    if codes[i] == '1' then
      local p, id, key, kind = at[i], ids[i], keys[i], kinds[i]
      if kind == 'd' then
        gone[#gone + 1] = key
        ends[#ends + 1] = false
        if p then
          free_lock(prefix, ARGV[p + 3], id)
        end
      elseif kind == 'x' then
        gone[#gone + 1] = key
        ends[#ends + 1] = false
        free_lock(prefix, call('HGET', key, 'unique_key'), id)
      else
        -- The last ten runs; what is longer than MAX_RUNS_BYTES and MAX_RUN_BYTES of asynq_core::runs is not ours.
        local record, known = nil, runs[i] or ''
        if ARGV[p + 3] ~= '' then
          local lines = {}
          if #known <= 5130 then
            for line in string.gmatch(known, '[^\n]+') do
              if #line <= 512 then
                lines[#lines + 1] = line
              end
            end
          end
          lines[#lines + 1] = kind .. ARGV[p + 3]
          record = table.concat(lines, '\n', math.max(1, #lines - 9))
        end
        if kind == 'c' then
          completed[#completed + 1] = ARGV[p + 5]
          completed[#completed + 1] = id
          write(key, 'completed', ARGV[p + 6], record)
          ends[#ends + 1] = false
          free_lock(prefix, ARGV[p + 4], id)
        elseif kind == 'r' then
          local score, exact = time_sent(ARGV[p + 5])
          retry[#retry + 1] = score
          retry[#retry + 1] = id
          write(key, 'retry', ARGV[p + 6], record)
          if exact then
            call('HSET', key, 'x:at', exact)
          end
          if ARGV[p + 4] == '1' then
            ends[#ends + 1] = true
          end
        elseif kind == 'a' then
          archived[#archived + 1] = ARGV[2]
          archived[#archived + 1] = id
          local sent = ARGV[p + 2]
          write(
            key, 'archived', sent == 'r' and ARGV[p + 6] or sent == 'a' and ARGV[p + 4]
              or cancelled(call('HGET', key, 'msg'), ARGV[2]), record
          )
          ends[#ends + 1] = true
        else
          pending[#pending + 1] = id
          call('HSET', key, 'state', 'pending', 'pending_since', ARGV[more])
          if record then
            call('HSET', key, 'x:runs', record)
          end
          call('HDEL', key, 'x:take', 'x:adopt', 'x:cancel', 'x:at')
        end
      end
    end
  end
  unlink_all(gone)
  if #completed > 0 then
    call('ZADD', prefix .. 'completed', unpack(completed))
  end
  if #retry > 0 then
    call('ZADD', prefix .. 'retry', unpack(retry))
  end
  if #pending > 0 then
    call('RPUSH', KEYS[1], unpack(pending))
  end
  if #archived > 0 then
    call('ZADD', prefix .. 'archived', unpack(archived))
    trim_archive(
      prefix, prefix .. 'archived', ARGV[more + 1], tonumber(ARGV[more + 2]), tonumber(ARGV[more + 3])
    )
  end
  return table.concat(codes), later, count(prefix, ARGV[4], ends, ARGV[3])
end
