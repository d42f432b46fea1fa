-- retry.lua · let selected jobs that failed or were cancelled wait again, with one more attempt
-- needs  records
-- needs  lines
-- needs  leases
-- needs  buckets
-- needs  keyed
-- needs  ties
-- needs  walk
-- ASKED, RETURNS  see walk.lua; returns how many, and where to go on (0: nowhere)
-- May run without memory to spare.

begin()
return move_all('waiting', function(id, head, data)
  if head[ATTEMPT] >= math.max(head[ATTEMPTS], 1) then head[ATTEMPTS] = head[ATTEMPT] + 1 end
  head[STALLS], head[ENDED], head[CLEAR_AT], head[LAST], head[DUE] = 0, 0, 0, 0, 0
  local state, place = arrive(QUEUE, id, head)
  return seal(state, place, head, '', data)
end)
