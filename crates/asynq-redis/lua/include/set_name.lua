-- include: whether a key below g: is a group or an aggregation set. Needs ARGV 1 queue prefix

local UUID = '^' .. string.rep('%x', 8) .. ('%-' .. string.rep('%x', 4)):rep(3) .. '%-' .. string.rep('%x', 12) .. '$'

-- The group that the hashes of a group's or set's tasks name; nil if the first ten do not tell.
local function named_by_tasks(key)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, 9)) do
    local group = redis.pcall('HGET', ARGV[1] .. 't:' .. id, 'group')
    if type(group) == 'string' and group ~= '' then
      return group
    end
  end
  return nil
end

-- Whether a name that stands in no index is that of a set: a group may be called after a colon and
-- a UUID, too, so its tasks tell.
local function is_set(name, key)
  local group, set = string.match(name, '^(.*):([^:]*)$')
  return group and string.match(set, UUID) and (named_by_tasks(key) or group) == group
end
