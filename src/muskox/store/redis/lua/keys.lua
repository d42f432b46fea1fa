-- keys.lua · what holds for keys of a queue and how they stand
-- needs  records
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  showing
-- ASKED  queue, keys or false for a page of those that have jobs, limits of their own or a hold, key after which the page
--        begins, how many at most
-- RETURNS  limits of the queue as text, then what showing.lua shows of each key
-- Writes nothing.

begin(true)
local QUEUE, NAMES, AFTER, LIMIT = unpack(ASKED)
local ring, found = ring_of(QUEUE), { read_limits(QUEUE).text }

local function has_something(its)
  return its.own or its.open + its.blocked + its.active > 0 or held_until(its)
end

if NAMES then
  read_keys(ring, NAMES)
  for i, key in ipairs(NAMES) do found[i + 1] = show_key(key_of(ring, key)) end
  return found
end
local after = AFTER == '' and '-' or '(' .. AFTER
while #found <= LIMIT do
  local names = call('ZRANGEBYLEX', P .. 'key-names:' .. QUEUE, after, '+', 'LIMIT', 0, math.min(LIMIT, CHUNK))
  read_keys(ring, names)
  for _, key in ipairs(names) do
    if #found <= LIMIT and has_something(key_of(ring, key)) then found[#found + 1] = show_key(key_of(ring, key)) end
  end
  if #names < math.min(LIMIT, CHUNK) then break end
  after = '(' .. names[#names]
end
return found
