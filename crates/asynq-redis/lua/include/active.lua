-- include: ids out of the list of active tasks. Needs chunks.lua.

local call, try = redis.call, redis.pcall

-- A list of so many entries is looked at as a whole, and so many are passed by the searches of one call before the
-- rest is left to the next one (rules.md#bounded-calls): a millisecond or two of Redis each.
local MOST_TOGETHER, MOST_PASSED = 10000, 100000

-- Takes ids out of `active`, each once. `wanted` has the place in `codes` of each of the `n` ids; those that stood
-- there get the code 1, others 0, and + what was not looked at. Returns the ids that were taken out and whether there
-- is a +; or nil if `active` is no list, and nothing was written. `looked` may have the entries at the tail, so many as
-- are looked at first, as LRANGE told them.
--
-- An LREM for each would be a call for each, and pass all entries before its own. Tasks that ended are mostly among
-- the oldest, at the tail; where old long ones fill it, among the newest. So both ends are looked at first, and
-- cut off with what is kept pushed back, or marked and removed together.
local function take_out(active, wanted, n, ids, codes, looked)
  local out, passed, whole = {}, 0, false

  -- Takes out what is wanted among the `size` entries at an end. Returns nil if `active` is no list.
  local function at_end(tail, size, known)
    local span = known or try('LRANGE', active, tail and -size or 0, tail and -1 or size - 1)
    if span.err then
      return nil
    end
    local length, hits, before = #span, {}, #out
    whole = whole or length < size
    for i = 1, length do
      local id = span[tail and length + 1 - i or i]
      local place = wanted[id]
      if place then
        wanted[id] = nil
        codes[place] = '1'
        out[#out + 1] = id
        hits[#hits + 1] = i
        if #out == n then
          break
        end
      end
    end
    local found, deepest = #hits, hits[#hits]
    if found == 0 then
      return true
    elseif deepest - found > 5 * found + 6 then
      -- An empty text is no id. Redis refuses LSET, but not LTRIM, as the first write under maxmemory.
      call('LTRIM', active, 0, -1)
      for i = 1, found do
        call('LSET', active, tail and -hits[i] or hits[i] - 1, '')
      end
      call('LREM', active, tail and -found or found, '')
      return true
    end
    local kept, next_hit = {}, found
    for i = deepest, 1, -1 do
      if hits[next_hit] == i then
        next_hit = next_hit - 1
      else
        kept[#kept + 1] = span[tail and length + 1 - i or i]
      end
    end
    if tail then
      call('LTRIM', active, 0, -deepest - 1)
      call_each('RPUSH', active, kept)
    else
      call('LTRIM', active, deepest, -1)
      call_each('LPUSH', active, kept)
    end
    return true
  end

  local size = n + math.min(n, 8)
  if not at_end(true, size, looked) then
    return nil
  end
  if #out < n and not whole then
    at_end(false, size)
  end
  local length = #out < n and not whole and call('LLEN', active)
  if length and n - #out > 12 and length <= MOST_TOGETHER then
    at_end(true, length + 1)
  end

  local later = false
  for i = 1, #ids do
    local id = ids[i]
    if wanted[id] == i then
      if whole then
        codes[i] = '0'
      elseif passed > MOST_PASSED then
        codes[i], later = '+', true
      else
        passed = passed + length
        codes[i] = call('LREM', active, -1, id) == 0 and '0' or '1'
        if codes[i] == '1' then
          out[#out + 1] = id
        end
      end
    end
  end
  return out, later
end
