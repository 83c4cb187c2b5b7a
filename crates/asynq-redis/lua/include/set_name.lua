-- include: the distinction of groups and aggregation sets among keys below g:. Needs ARGV 1 queue prefix

local UUID = '^' .. string.rep('%x', 8) .. ('%-' .. string.rep('%x', 4)):rep(3) .. '%-' .. string.rep('%x', 12) .. '$'

-- The group that is named in the hashes of the tasks of a group or set; nil if the first ten name none.
local function named_by_tasks(key)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, 9)) do
    local group = redis.pcall('HGET', ARGV[1] .. 't:' .. id, 'group')
    if type(group) == 'string' and group ~= '' then
      return group
    end
  end
  return nil
end

-- Whether a name that is in no index is that of a set. The name of a group can also end in a colon and a UUID,
-- so the tasks decide.
local function is_set(name, key)
  local group, set = string.match(name, '^(.*):([^:]*)$')
  return group and string.match(set, UUID) and (named_by_tasks(key) or group) == group
end
