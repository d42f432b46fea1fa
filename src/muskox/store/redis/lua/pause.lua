-- pause.lua · stop or allow claims from a queue, also one that has had no job yet
-- ASKED  queue, whether to stop
-- RETURNS  1 when that changed anything
-- May run without memory to spare.

local queue, paused = ASKED[1], ASKED[2]
begin()
know_queue(queue)
local changed = call(paused and 'SADD' or 'SREM', P .. 'paused', queue)
if changed == 1 then
  tell_text({ queue, paused and 'paused' or 'resumed', now }, 1, 'j', '[[]]')
  if not paused then woken[queue] = true end
end
finish()
return changed
