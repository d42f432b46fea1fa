-- remove.lua · delete selected jobs with their logs
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
return move_all('removed', function(id, head)
  end_window(QUEUE, id, head)
  call('HDEL', JOBS, id)
  call('DEL', P .. 'log:' .. QUEUE .. ':' .. id)
end, add_later)
