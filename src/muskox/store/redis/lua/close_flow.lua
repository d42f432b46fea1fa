-- close_flow.lua · let nothing more be added to a flow or batch
-- needs  records
-- needs  lines
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
-- ASKED  its id
-- RETURNS  its record (see flowing.lua), or nothing when there is none

begin()
local its = flow_of(ASKED[1])
if not its then return nil end
if its.is_open then
  its.is_open, its.is_changed = false, true
  finish()
end
return call('HGET', P .. 'flows', its.id)
