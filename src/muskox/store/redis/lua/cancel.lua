-- cancel.lua · end selected jobs that have not ended; the lease of an active one is lost by that
-- needs  records
-- needs  lines
-- needs  leases
-- needs  buckets
-- needs  keyed
-- needs  ties
-- needs  walk
-- needs  adding
-- needs  dedup
-- ASKED, RETURNS  see walk.lua; returns how many, and where to go on (0: nowhere)
-- May run without memory to spare.

begin()
return move_all('cancelled', function(id, head, data)
  end_window(QUEUE, id, head)
  head[ENDED], head[DUE], head[LAST] = now, 0, 0
  call('ZADD', P .. 'cancelled:' .. QUEUE, now, id)
  return seal('X', '\0\0\0\0\0\0\0', head, '', data)
end, add_later)
