-- probe_delayed: reads the sets of delayed tasks, so that a tracking connection watches them. Returns no due
-- tasks, because the caller has read them before.
--
-- KEYS  for each queue: scheduled, retry
-- returns 0

for i = 1, #KEYS do
  redis.pcall('ZCARD', KEYS[i])
end
return 0
