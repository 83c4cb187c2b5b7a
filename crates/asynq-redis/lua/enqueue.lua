-- enqueue: creates tasks, each atomic for itself (transitions.md#enqueue to transitions.md#add-to-a-group-unique).
--
-- KEYS  1 pending, then 2 scheduled, 3 groups, unless all items are pending, with ids that differ, and have neither lock
--       nor deadline in ms
-- ARGV  1 queue prefix, 2 now in s, 3 now in ns, 4 number of items, then the items as in
--       include/create.lua
-- returns the codes as in include/create.lua
--
-- Lock and id are tested before anything is written, so a conflict leaves no lock behind. A place that
-- holds another type refuses the items for it and no others. Under maxmemory Redis refuses the first
-- write, and with it the whole call.

-- What enqueue_plain.lua has left.
local n = tonumber(ARGV[4])
return (create(5, n, create_misfits(5, n)))
