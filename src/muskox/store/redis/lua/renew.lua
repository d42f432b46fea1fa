-- renew.lua · let leases run on from now
-- needs  records
-- needs  leases
-- ASKED  lease in µs, then per queue: queue, ids
-- ARGV   4 the stamps of all fences, one after the other
-- RETURNS  the numbers of those that were lost, counted from 1
-- May run without memory to spare.

begin()
local lost, number, until_ = {}, 0, format('%.0f', now + ASKED[1])

for _, group in ipairs(ASKED[2]) do
  local jobs, leases, ids, before = P .. 'jobs:' .. group[1], P .. 'leases:' .. group[1], group[2], number
  for first = 1, #ids, CHUNK do
    local members, held = {}, {}
    for i = first, math.min(first + CHUNK - 1, #ids) do
      local place = 7 * (before + i)
      members[#members + 1] = sub(ARGV[4], place - 6, place) .. ids[i]
    end
    for i, score in ipairs(call('ZMSCORE', leases, unpack(members))) do
      local member = members[i]
      number = number + 1
      -- A lease that was renewed before need not be looked up in the record, which may be long.
      if score or is_active_under(call('HGET', jobs, sub(member, 8)), sub(member, 1, 7)) then
        held[#held + 1], held[#held + 2] = until_, member
      else
        lost[#lost + 1] = number
      end
    end
    if #held > 0 then call('ZADD', leases, unpack(held)) end
  end
end

finish()
return lost
