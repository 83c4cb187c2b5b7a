-- write_entries: publishes the entries of a scheduler (transitions.md#publish-a-scheduler).
--
-- KEYS  1 entries of the scheduler
-- ARGV  1 time to live in s, then the entries
-- returns status OK
--
-- The first write frees memory, as in announce.lua. Each entry is pushed to the head, as Go does.

redis.call('DEL', KEYS[1])
local entries = {}
for i = 2, #ARGV do
  entries[#entries + 1] = ARGV[i]
end
call_each('LPUSH', KEYS[1], entries)
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.status_reply('OK')
