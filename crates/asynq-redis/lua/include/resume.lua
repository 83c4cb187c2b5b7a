-- include: the place at which a look at a container goes on. Reads only.

-- Whether bytes are behind others. Lua compares texts by the locale.
local function is_behind(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end

-- The rank behind a member of a sorted set that had a score, whether it is still there or not. `score` '': the first.
local function rank_behind(set, score, member)
  if score == '' then
    return 0
  end
  if redis.call('ZSCORE', set, member) == score then
    return redis.call('ZRANK', set, member) + 1
  end
  local low, high = redis.call('ZCOUNT', set, '-inf', '(' .. score), redis.call('ZCOUNT', set, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_behind(redis.call('ZRANGE', set, middle, middle)[1], member) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- The index behind an entry of a list, of which `rest` entries were behind it. `rest` '': the first. Entries that were
-- pushed or removed before the place do not move it. Tasks that were taken at the tail, or given back there, move it: the
-- entry is looked for among `near` entries on both sides.
local function index_behind(list, rest, entry, near)
  if rest == '' then
    return 0
  end
  local at = math.max(0, redis.call('LLEN', list) - tonumber(rest))
  if at > 0 and redis.call('LINDEX', list, at - 1) == entry then
    return at
  end
  local first = math.max(0, at - 1 - near)
  for i, id in ipairs(redis.call('LRANGE', list, first, at - 1 + near)) do
    if id == entry then
      return first + i
    end
  end
  return at
end
