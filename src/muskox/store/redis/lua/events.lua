-- events.lua · read facts after an offset
-- ASKED  offset (-1: none, only the latest is asked for), how many records at most, whether to give a hint when there is one
-- RETURNS  now, offset of the latest fact, offset of the first fact that is kept, records (id and fields)
-- May run without memory to spare: all that it writes is one flag.

local after, most, hint = ASKED[1], ASKED[2], ASKED[3]
begin(true)
local first = event
local oldest = call('XRANGE', P .. 'events', '-', '+', 'COUNT', 1)[1]
if oldest then
  local last, size = string.match(oldest[1], '^(%d+)-(%d+)$')
  first = tonumber(last) - tonumber(size) + 1
end
local found = {}
if after >= 0 then
  found = call('XRANGE', P .. 'events', format('%.0f', after + 1), '+', 'COUNT', most)
  if #found == 0 and hint then call('HSET', IDLE, '!', 1) end
end
return { now, event - 1, first, found }
