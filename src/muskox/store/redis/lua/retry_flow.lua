-- retry_flow.lua · let jobs of a flow or batch that failed or were cancelled run again
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
-- needs  again
-- needs  moving
-- needs  members
-- ASKED  its id, how many at most of a batch
-- RETURNS  how many, and 1 when it did not look at all of a batch
-- May run without memory to spare.

local MOST_SEEN = 20000

begin()
local its, limit = flow_of(ASKED[1]), ASKED[2]
if not its then return { 0, 0 } end
its.is_stopped, its.is_changed = false, true
local first, most, most_seen = 0, math.huge, math.huge
if its.is_batch then first, most, most_seen = its.retry, limit, MOST_SEEN end
local found, place, seen = members_from(its, first, 'FX', most, most_seen)
take_members_back(its, found)
move_members(found, 'waiting', retry_job)
if its.is_batch then its.retry = place end
finish()
return { #found, seen >= most_seen and 1 or 0 }
