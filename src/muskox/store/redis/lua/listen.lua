-- listen.lua · ask for a hint when a job begins to wait in a queue, or ("!") when there is a new fact
-- ASKED  queues
-- RETURNS  those for which nobody had asked, so that there may have been something since
-- May run without memory to spare.

local new = {}
for _, queue in ipairs(ASKED) do
  if call('HSETNX', IDLE, queue, 1) == 1 then new[#new + 1] = queue end
end
return new
