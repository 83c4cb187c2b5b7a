-- write_statistics: writes buckets of the statistics of a server (ours.md#statistics).
--
-- KEYS  the hashes of one queue
-- ARGV  1 most fields of a hash, then for each bucket: number of its hash among the keys, field, second until which the
--       hash is kept, number of records in the bucket, the bucket
-- returns number of buckets for which there was no room
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- A bucket with more records is a later one and stays, so that a call that arrives late does no harm. While Redis is
-- full the call is refused whole: its first write takes memory.

for i = 1, #KEYS do
  if not holds(KEYS[i], 'hash') then
    return wrong_type(KEYS[i])
  end
end
local most, full = tonumber(ARGV[1]), 0
for i = 2, #ARGV, 5 do
  local key, field = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  local old = call('HGET', key, field)
  local records = old and tonumber(string.match(old, '^1 (%d+) '))
  if not old and call('HLEN', key) >= most then
    full = full + 1
  elseif not records or records <= tonumber(ARGV[i + 3]) then
    call('HSET', key, field, ARGV[i + 4])
    call('EXPIREAT', key, ARGV[i + 2])
  end
end
return full
