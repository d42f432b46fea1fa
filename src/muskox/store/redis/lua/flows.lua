-- flows.lua · flows and batches by their ids, or a page of them, latest first
-- ASKED  ids or false; whether only those that have not ended; before which number (0: from the latest on); how many
-- RETURNS  number, id and record (see flowing.lua) of each
-- Writes nothing.

local ids, only_unended, before, limit = unpack(ASKED)
local found = {}

local function put(id, number)
  local kept = call('HGET', P .. 'flows', id)
  if kept then found[#found + 1], found[#found + 2], found[#found + 3] = number, id, kept end
end

if ids then
  for _, id in ipairs(ids) do put(id, 0) end
else
  local list, from = P .. (only_unended and 'flow-unended' or 'flow-list'), before > 0 and format('(%.0f', before) or '+inf'
  local its = call('ZREVRANGEBYSCORE', list, from, '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #its, 2 do put(its[i], tonumber(its[i + 1])) end
end
return found
