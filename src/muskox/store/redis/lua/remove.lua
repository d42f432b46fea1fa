-- remove.lua · delete selected jobs with their logs
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
-- needs  walk
-- ASKED, RETURNS  see walk.lua; returns how many, and where to go on (0: nowhere)
-- May run without memory to spare.

begin()
return move_all('removed', function(queue, id, head)
  end_window(queue, id, head)
  call('HDEL', P .. 'jobs:' .. queue, id)
  call('DEL', P .. 'log:' .. queue .. ':' .. id)
  gone(head)
end, add_later)
