-- promote_due.lua · let due jobs wait; they arrive at the moment they were due. Also lets in those of keys that may
-- needs  records
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- ASKED  how many at most
-- RETURNS  how many, and 1 when there are jobs whose time to begin is over, see expire.lua
-- May run without memory to spare.

begin()
local limit, moved = ASKED[1], 0

local function promote(queue, ids)
  local jobs = P .. 'jobs:' .. queue
  local told = { W = { {}, {}, {} }, B = { {}, {}, {} } }
  for _, id in ipairs(ids) do
    local v = call('HGET', jobs, id)
    local _, _, text, result, data = open_record(v)
    local head = read_head(text)
    local due = head[DUE]
    head[DUE] = 0
    local state, place = arrive(queue, id, head, due)
    call('HSET', jobs, id, seal(state, place, head, result, data))
    count(queue, head[NAME], 'D', state, 1)
    local its = told[state]
    local at = #its[1] + 1
    its[1][at], its[2][at], its[3][at] = id, head[NAME], head[ATTEMPT]
  end
  call('ZREM', P .. 'delayed:' .. queue, unpack(ids))
  for _, state in ipairs({ 'W', 'B' }) do tell(queue, FACT[state], unpack(told[state])) end
end

for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
  while moved < limit do
    local some = math.min(limit - moved, CHUNK)
    local due = call('ZRANGEBYSCORE', P .. 'delayed:' .. queue, '-inf', now, 'LIMIT', 0, some)
    local ids = {}
    for _, id in ipairs(due) do
      local v = call('HGET', P .. 'jobs:' .. queue, id)
      if v and byte(v, 1) == 68 then
        ids[#ids + 1] = id
      else
        -- Something else than a step of ours has been here.
        call('ZREM', P .. 'delayed:' .. queue, id)
      end
    end
    if #ids > 0 then promote(queue, ids) end
    moved = moved + #ids
    if #due < some then break end
  end
end

if limited then
  for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
    look_at_keys(queue, call('HGET', LIMITS, queue .. ':walk'))
  end
end
local is_late = 0
for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
  local over = call('ZRANGEBYSCORE', P .. 'expires:' .. queue, '-inf', format('(%.0f', now), 'LIMIT', 0, 1)
  if over[1] then is_late = 1 end
end
if moved > 0 or ring_list[1] then finish() end
return { moved, is_late }
