-- add.lua · store new jobs in the order given, all of them; known ids are left as they are
-- needs  adding
-- needs, tied  records
-- needs, tied  buckets
-- needs, tied  rings
-- needs, tied  keyed
-- needs, tied  ties
-- needs, tied  adding_tied
-- may need  bounds
-- ASKED  per group of jobs alike: queue, name, priority, delay in µs, attempts, max_stalls, options,
--        ids, data, ties of each or false for none (see adding.lua)
-- RETURNS  0 when there is a bound to how many jobs wait in one of the queues, and nothing was done, see add_bounded.lua;
--          else now, the numbers (from 1) of those that are blocked, then number and record of each job whose id was known

begin()
if limited then
  with_bounds()
  if are_bounded(ASKED) then return 0 end
end
local known, held, number = {}, {}, 0
for _, group in ipairs(ASKED) do
  if group[10] then
    number = add_tied(group, number, known, held)
  else
    number = add_alike(group, number, known)
  end
end
finish()
return { now, held, known }
