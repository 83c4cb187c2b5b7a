-- include: variadic commands on lists of any length (unpack fails above some 8000 values).

-- Calls `command key ...` for all items, at most 1000 at a time.
local function call_each(command, key, items)
  local n = #items
  for i = 1, n, 1000 do
    redis.call(command, key, unpack(items, i, math.min(i + 999, n)))
  end
end

-- Calls `UNLINK ...` for all keys, at most 1000 at a time.
local function unlink_all(keys)
  local n = #keys
  for i = 1, n, 1000 do
    redis.call('UNLINK', unpack(keys, i, math.min(i + 999, n)))
  end
end
