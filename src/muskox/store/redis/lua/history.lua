-- history.lua · cells of the past
-- ASKED  seconds of a cell, how many seconds back, queue or false for all, whether of names and not of whole queues
-- RETURNS  now, then in turn moment in seconds, queue and name with a colon between, and cell
-- Writes nothing.

begin(true)
local step, seconds, queue, names = unpack(ASKED)
local last = floor(now / 1000000 / step) * step
local at = floor((now / 1000000 - seconds) / step) * step
local found = { now }
while at <= last do
  local its = call('HGETALL', P .. 'history:' .. format('%d:%.0f', step, at))
  for i = 1, #its, 2 do
    local colon = string.find(its[i], ':', 1, true)
    if (colon < #its[i]) == names and (not queue or sub(its[i], 1, colon - 1) == queue) then
      local place = #found
      found[place + 1], found[place + 2], found[place + 3] = format('%.0f', at), its[i], its[i + 1]
    end
  end
  at = at + step
end
return found
