-- flow_jobs.lua · a page of the jobs of a flow that are still there, in the order in which they were added
-- needs  records
-- ASKED  its id, states as letters ("": any), after which place, how many at most
-- RETURNS  queue, id and record of each, and after which place the next page begins (0: there is none)
-- Writes nothing.

-- Records that one page looks at, at most.
local MOST_SEEN = 5000
local flow, states, after, limit = unpack(ASKED)
local rows, seen = {}, 0

local function is_meant(v, added)
  if not v or (states ~= '' and not string.find(states, sub(v, 1, 1), 1, true)) then return false end
  local head = read_head(select(3, open_record(v)))
  return head[FLOW] == flow and head[ADDED] == number_of(added)
end

local kept = call('HGET', P .. 'flows', flow)
if not kept then return { rows, 0 } end
-- The list has lost its front, and places go on to be counted from there.
local trimmed = unpack_text(kept)[12]
local place = math.max(after, trimmed)

while #rows < 3 * limit and seen < math.max(limit, MOST_SEEN) do
  local names = call('LRANGE', P .. 'flow-jobs:' .. flow, place - trimmed, place - trimmed + CHUNK - 1)
  if #names == 0 then return { rows, 0 } end
  for _, name in ipairs(names) do
    if #rows >= 3 * limit then break end
    local queue, id = string.match(sub(name, 8), '^([^:]*):(.*)$')
    local v = call('HGET', P .. 'jobs:' .. queue, id)
    place, seen = place + 1, seen + 1
    if is_meant(v, sub(name, 1, 7)) then
      rows[#rows + 1], rows[#rows + 2], rows[#rows + 3] = queue, id, v
    end
  end
end
return { rows, place < trimmed + call('LLEN', P .. 'flow-jobs:' .. flow) and place or 0 }
