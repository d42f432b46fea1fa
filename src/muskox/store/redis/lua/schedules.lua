-- schedules.lua · read schedules: of these names, those that are due, or all by their names
-- ASKED  names or false, whether only the due ones, how many at most
-- RETURNS  now, the schedule whose moment is the nearest after it ("": none), then name and schedule of each
-- Writes nothing.

begin(true)
local names, due, limit = ASKED[1], ASKED[2], ASKED[3]
local nearest = call('ZRANGEBYSCORE', P .. 'due', '(' .. format('%.0f', now), '+inf', 'LIMIT', 0, 1)
local found = { now, nearest[1] and call('HGET', P .. 'schedules', nearest[1]) or '' }

if not names then
  names = {}
  if limit > 0 then
    if due then
      names = call('ZRANGEBYSCORE', P .. 'due', '-inf', format('%.0f', now), 'LIMIT', 0, limit)
    else
      names = call('ZRANGE', P .. 'schedule-names', 0, limit - 1)
    end
  end
end

for first = 1, #names, CHUNK do
  local some = {}
  for i = first, math.min(first + CHUNK - 1, #names) do some[#some + 1] = names[i] end
  for i, v in ipairs(call('HMGET', P .. 'schedules', unpack(some))) do
    if v then
      found[#found + 1] = some[i]
      found[#found + 1] = v
    end
  end
end
return found
