-- retry.lua · let selected jobs that failed or were cancelled run again, with one more attempt
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
return move_all('waiting', retry_job, nil, take_all_back)
