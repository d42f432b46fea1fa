-- parents.lua · the parents of a job
-- needs  records
-- needs  nodes
-- ASKED  queue, id
-- RETURNS  what `parents_of` in nodes.lua gives
-- Writes nothing.

local v = call('HGET', P .. 'jobs:' .. ASKED[1], ASKED[2])
if not v then return {} end
return parents_of(ASKED[1], ASKED[2], read_head(select(3, open_record(v))), false, math.huge)
