-- limit_key.lua · put what holds for one key
-- needs  records
-- needs  buckets
-- needs  rings
-- needs  keyed
-- ASKED  queue, key, and its own or false: text, weight, then -1 for as the queue says and 0 for no limit: concurrency,
--        interval and size of its bucket
-- RETURNS  nothing
-- May run without memory to spare.

begin()
local queue, key, own = unpack(ASKED)
know_queue(queue)
local ring = ring_of(queue)
local its = change_key(ring, key)
its.own = own
apply_own(ring, its)
call('HSET', IDLE, queue, 1)
woken[queue] = true
finish()
