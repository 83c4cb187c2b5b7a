-- include: new tasks that all go to pending and have neither lock nor conflict, as most do: they are tested and pushed
-- together. Comes before all other includes, so that a call that ends here does not pay for their functions. What is not
-- plain is left to enqueue.lua, with nothing written.

if not KEYS[2] then
  local ARGV, call, sub, n = ARGV, redis.call, string.sub, ARGV[4]
  local task_of, pending, since = ARGV[1] .. 't:', KEYS[1], ARGV[3]
  if n == '1' then
    local id = ARGV[5]
    local key = task_of .. id
    if call('EXISTS', key) == 0 then
      local length = redis.pcall('LPUSH', pending, id)
      if type(length) == 'table' then
        return sub(length.err, 1, 9) == 'WRONGTYPE' and 'w' or length
      end
      call(
        'HSET', key, 'msg', ARGV[7], 'state', 'pending', 'pending_since', since, 'x:enq', sub(ARGV[6], 2)
      )
      return '1'
    end
  else
    n = tonumber(n)
    local ids, keys = { unpack(ARGV, 5, n + 4) }, { unpack(ARGV, 5, n + 4) }
    for i = 1, n do
      local id = ARGV[3 * i + 2]
      ids[i], keys[i] = id, task_of .. id
    end
    if call('EXISTS', unpack(keys)) == 0 then
      local length = redis.pcall('LPUSH', pending, unpack(ids))
      if type(length) == 'table' then
        return sub(length.err, 1, 9) == 'WRONGTYPE' and string.rep('w', n) or length
      end
      for i = 1, n do
        local place = 3 * i + 3
        call(
          'HSET', keys[i], 'msg', ARGV[place + 1], 'state', 'pending', 'pending_since', since,
          'x:enq', sub(ARGV[place], 2)
        )
      end
      return string.rep('1', n)
    end
  end
end
