-- promote_due.lua · let due jobs wait; they arrive at the moment they were due
-- needs  records
-- ASKED  how many at most
-- RETURNS  how many
-- May run without memory to spare.

begin()
local limit, moved = ASKED[1], 0

local function promote(queue, ids)
  local jobs, names, attempts = P .. 'jobs:' .. queue, {}, {}
  local first = take_stamps(#ids)
  for i, id in ipairs(ids) do
    local v = call('HGET', jobs, id)
    local _, _, text, result, data = open_record(v)
    local head, place = read_head(text), seven(first + i - 1)
    local line = line_of(head)
    call('ZADD', P .. 'early:' .. queue .. ':' .. line, head[DUE], place .. id)
    call('ZADD', P .. 'open:' .. queue, head[PRIORITY], line)
    head[DUE] = 0
    call('HSET', jobs, id, seal('W', place, head, result, data))
    count(queue, head[NAME], 'D', 'W', 1)
    names[i], attempts[i] = head[NAME], head[ATTEMPT]
  end
  call('ZREM', P .. 'delayed:' .. queue, unpack(ids))
  tell(queue, 'waiting', ids, names, attempts)
  woken[queue] = true
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

if moved > 0 then finish() end
return moved
