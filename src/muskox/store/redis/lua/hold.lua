-- hold.lua · let no job of a queue, or of one key of it, start for some time; or again
-- needs  records
-- needs  buckets
-- needs  rings
-- needs  keyed
-- ASKED  queue, key or "", µs from now (0: the hold is over)
-- RETURNS  nothing
-- May run without memory to spare.

begin()
local queue, key, duration = unpack(ASKED)
know_queue(queue)
hold(queue, key, duration)
call('HSET', IDLE, queue, 1)
woken[queue] = true
finish()
