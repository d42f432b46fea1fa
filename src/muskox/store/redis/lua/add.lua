-- add.lua · store new jobs in the order given, all of them; known ids are left as they are
-- needs  adding
-- ASKED  per group of jobs alike: queue, name, priority, delay in µs, attempts, max_stalls, options,
--        ids, data
-- RETURNS  now, then number (from 1) and record of each job whose id was known

begin()
local known, number = { now }, 0
for _, group in ipairs(ASKED) do number = add_alike(group, number, known) end
finish()
return known
