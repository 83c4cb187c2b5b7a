-- include: checks of the types of keys, before anything is written.

local call, try = redis.call, redis.pcall

-- Whether a key is absent or holds the type of the layout.
local function holds(key, want)
  local found = call('TYPE', key).ok
  return found == want or found == 'none'
end

-- The first key of a flat list (key, type, ...) that holds another type, or nil.
local function misfit(list)
  for i = 1, #list, 2 do
    if not holds(list[i], list[i + 1]) then
      return list[i]
    end
  end
  return nil
end

-- The refusal of a whole call, before any write. It is not an error or status reply, because these must be text
-- and a key can hold any bytes.
local function wrong_type(key)
  return { 'WRONGTYPE', key }
end
