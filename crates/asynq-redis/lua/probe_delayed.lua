-- probe_delayed: looks at the sets of delayed tasks, so that a tracking connection keeps a watch on
-- them. What is due there is no news: who watches has looked.
--
-- KEYS  for each queue: scheduled, retry
-- returns 0

for i = 1, #KEYS do
  redis.pcall('ZCARD', KEYS[i])
end
return 0
