-- add_once.lua · store new jobs of which some have a dedup key; all of them, but for those whose key another job has
-- needs  records
-- needs  lines
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- needs  bounds
-- needs  once
-- ASKED  groups as add.lua has them, those with a key of one job each, and per group its rule (see dedup.lua) or false
-- RETURNS  0 when there is a bound to how many jobs wait in one of the queues, and nothing was done, see add_bounded.lua;
--          else now; the number (from 1) of a job that was to be refused, 0 when there is none, and the id of the one that
--          has its key; the numbers of those that are blocked; then number, id ("" for its own) and record ("" when it is
--          gone) of each job that was not stored

begin()
if limited and are_bounded(groups) then return 0 end
local said = refused()
if said then return said end
local answer = add_all()
finish()
return answer
