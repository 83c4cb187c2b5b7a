-- claim_heal: claims the repairs of a queue for one server, for a limited time.
--
-- KEYS  1 x:healer
-- ARGV  1 who claims, 2 for how long in ms (at least 1)
-- returns 1 claimed, 0 another server holds the claim
--
-- The holder can claim again before its time is over. A value that is not a claim is replaced. The first write
-- frees memory, so the script runs under maxmemory.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] and redis.call('PTTL', KEYS[1]) > 0 then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
