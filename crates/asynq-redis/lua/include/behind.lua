-- include: places in sorted sets. Needs container.lua.

-- Whether an entry comes before another one in a sorted set. Lua compares texts by the locale.
local function precedes(score, id, other_score, other)
  local a, b = tonumber(score), tonumber(other_score)
  if a ~= b then
    return a < b
  end
  for i = 1, math.min(#id, #other) do
    local x, y = string.byte(id, i), string.byte(other, i)
    if x ~= y then
      return x < y
    end
  end
  return #id < #other
end

-- The rank of the first entry behind another one, which need not be there.
local function rank_behind(container, score, id)
  local low, high = 0, call('ZCARD', container)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = call('ZRANGE', container, middle, middle, 'WITHSCORES')
    if precedes(score, id, entry[2], entry[1]) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end
