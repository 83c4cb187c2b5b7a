-- record_act: adds an act of an operator to the audit trail.
--
-- KEYS  1 trail
-- ARGV  1 the act as JSON, 2 limit, from which on the oldest entries go (about)
-- returns the number of entries
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The first write frees memory, so an act is also recorded when Redis is full. The limit is only reached if the caller does not make
-- room before.

if not holds(KEYS[1], 'stream') then
  return wrong_type(KEYS[1])
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', tonumber(ARGV[2]) - 1)
redis.call('XADD', KEYS[1], '*', 'act', ARGV[1])
return redis.call('XLEN', KEYS[1])
