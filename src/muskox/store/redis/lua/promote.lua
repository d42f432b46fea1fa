-- promote.lua · let selected delayed jobs wait, whatever their due; they arrive now
-- needs  records
-- needs  lines
-- needs  leases
-- needs  walk
-- ASKED, RETURNS  see walk.lua; returns how many, and where to go on (0: nowhere)
-- May run without memory to spare.

begin()
return move_all('waiting', 'W', function(id, head, data)
  head[DUE], head[LAST] = 0, 0
  return seal('W', arrive(QUEUE, id, head), head, '', data)
end)
