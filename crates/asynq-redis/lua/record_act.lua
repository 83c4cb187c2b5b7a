-- record_act: adds an act of an operator to the audit trail.
--
-- KEYS  1 trail
-- ARGV  1 the act as JSON, 2 limit (about one less is kept, then one added)
-- returns status OK
--       or {WRONGTYPE, key}: refused, nothing was written
--
-- The first write frees memory, so an act is also recorded when Redis is full.

if not holds(KEYS[1], 'stream') then
  return wrong_type(KEYS[1])
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', tonumber(ARGV[2]) - 1)
redis.call('XADD', KEYS[1], '*', 'act', ARGV[1])
return redis.status_reply('OK')
