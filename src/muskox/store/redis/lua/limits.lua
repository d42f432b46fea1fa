-- limits.lua · what holds for a queue and how it stands
-- needs  buckets
-- needs  showing
-- ASKED  queue
-- RETURNS  now, and what showing.lua shows of a queue
-- Writes nothing.

begin(true)
return { now, show_queue(ASKED) }
