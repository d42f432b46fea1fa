-- promote.lua · let selected delayed jobs wait, whatever their due; they arrive now
-- needs  records
-- needs  lines
-- needs  leases
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  nodes
-- needs  moving
-- needs  walk
-- ASKED, RETURNS  see walk.lua; returns how many, and where to go on (0: nowhere)
-- May run without memory to spare.

begin()
return move_all('waiting', function(queue, id, head, data)
  head[DUE], head[LAST] = 0, 0
  local state, place = arrive(queue, id, head)
  return seal(state, place, head, '', data)
end)
