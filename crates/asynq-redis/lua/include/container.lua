-- include: the types of keys are looked at before anything is written.

local call, try = redis.call, redis.pcall

-- Whether a key is absent or holds the type that the layout says.
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

-- The refusal of a whole call, before any write. Not an error or status reply: a key may hold any
-- bytes, and those replies must be text.
local function wrong_type(key)
  return { 'WRONGTYPE', key }
end
