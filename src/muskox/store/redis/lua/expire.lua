-- expire.lua · fail jobs that had to be begun by now, and that nobody has begun with
-- needs  records
-- needs  lines
-- needs  leases
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- needs  nodes
-- needs  flowing
-- needs  moving
-- needs  expiry
-- ASKED  how many are looked at, at most
-- RETURNS  how many were looked at
-- May run without memory to spare.

begin()
local limit, looked = ASKED[1], 0
for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
  if looked < limit then looked = looked + expire_jobs(queue, limit - looked) end
end
finish()
return looked
