-- cancel_flow.lua · close a flow or batch and end its jobs that have not ended
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
-- ASKED  its id, how many at most
-- RETURNS  how many were ended, and 1 when it did not look at all of a batch
-- May run without memory to spare.

local MOST_SEEN = 20000

begin()
local its, limit = flow_of(ASKED[1]), ASKED[2]
if not its then return { 0, 0 } end
its.is_open, its.is_stopped, its.is_changed = false, true, true
local before, more = its.X, 0

if its.is_batch then
  local found, place, seen = members_from(its, its.cancel, 'WDBA', limit, MOST_SEEN)
  more = seen >= MOST_SEEN and 1 or 0
  move_members(found, 'cancelled', cancel_job, add_later)
  its.cancel = place
else
  -- Those that wait for others first, children before their parents, so that none fails or is released by that.
  local found, chosen = members_from(its, 0, 'WDBA', math.huge, math.huge), {}
  for i = #found, 1, -1 do
    if #chosen < limit and sub(found[i][3], 1, 8) == 'B' .. BEHIND then chosen[#chosen + 1] = found[i] end
  end
  for _, one in ipairs(found) do
    if #chosen < limit and sub(one[3], 1, 8) ~= 'B' .. BEHIND then chosen[#chosen + 1] = one end
  end
  move_members(chosen, 'cancelled', cancel_job, add_later)
end
finish()
return { its.X - before, more }
