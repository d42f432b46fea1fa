-- events.lua · read facts after an offset
-- ASKED  offset (-1: none, only the latest is asked for), how many at most, whether to give a hint when there is one
-- RETURNS  now, offset of the latest fact, offset of the first fact that is kept, records (id and fields), of which the
--          last may tell of more facts than were asked for
-- May run without memory to spare: all that it writes is one flag.

local after, most, hint = ASKED[1], ASKED[2], ASKED[3]
-- An answer is small, since a server may cut those off who are to read a long one.
local PIECE, MOST_BYTES = 20, 65536
begin(true)
local first = event

local function last_and_size(id)
  local last, size = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(last), tonumber(size)
end

local oldest = call('XRANGE', P .. 'events', '-', '+', 'COUNT', 1)[1]
if oldest then
  local last, size = last_and_size(oldest[1])
  first = last - size + 1
end

local found, facts, bytes, from = {}, 0, 0, format('%.0f', after + 1)
while after >= 0 and facts < most and bytes < MOST_BYTES do
  local some = call('XRANGE', P .. 'events', from, '+', 'COUNT', PIECE)
  for _, record in ipairs(some) do
    if facts >= most or bytes >= MOST_BYTES then break end
    local _, size = last_and_size(record[1])
    found[#found + 1], facts, bytes, from = record, facts + size, bytes + #record[2][4], '(' .. record[1]
  end
  if #some < PIECE then break end
end
if after >= 0 and #found == 0 and hint then call('HSET', IDLE, '!', 1) end
return { now, event - 1, first, found }
