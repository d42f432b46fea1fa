-- claim.lua · move waiting jobs to active, each with a lease and a fence of its own
-- needs  records
-- needs  lines
-- needs  leases
-- needs  picking
-- needs, tied  buckets
-- needs, tied  rings
-- needs, tied  keyed
-- needs, tied  sifting
-- ASKED  worker, lease in µs, limit, ticket, then per want: queue, names or false, stalls allowed by name or false
-- RETURNS  1 when more may wait behind what was skipped, number of the want of each job (empty: all of the first),
--          id and record of each job in turn, by the number of a want in how many µs more of it may start, where that is
--          a matter of time, whether the store has any limits or keys, and in turn place and stamp of some jobs as
--          they waited; without ties nothing, where a queue has any
-- May run without memory to spare: what is claimed can then be settled, which makes room.

-- A worker has two claims on their way at most.
local TICKETS = 4
-- Of so many jobs of a claim about is told since when they waited; core/history.py says which.
local SOME = 4

local worker, lease, limit, ticket, wants = ASKED[1], ASKED[2], ASKED[3], ASKED[4], ASKED[5]
local tickets = P .. 'tickets:' .. worker

begin()

-- --- a ticket that was said before -------------------------------------------------

local function said_before()
  local kept = call('HMGET', tickets, 't0', 't1', 't2', 't3', 'next')
  for i = 1, TICKETS do
    if kept[i] == ticket then return unpack_text(call('HGET', tickets, 'd' .. i - 1)) end
  end
  return nil, tonumber(kept[5] or 0)
end

local function give_again(said)
  local flat, places = {}, {}
  for i = 1, #said, 2 do
    local place, first = said[i], said[i + 1]
    local queue = wants[place][1]
    for _, pair in ipairs(fences_of(queue, first)) do
      local v = call('HGET', P .. 'jobs:' .. queue, pair[2])
      if is_active_under(v, pair[1]) then
        flat[#flat + 1], flat[#flat + 2] = pair[2], v
        if #wants > 1 then places[#places + 1] = place end
      end
    end
  end
  return { 0, places, flat, {}, 1, {} }
end

-- --- moving -------------------------------------------------------------------------

-- Head of a claimed record, the same with its lengths, name and attempt, by the head of the waiting one without its key; last
-- what `lengths_with` keeps.
local function claimed_head(text, want, first)
  local head = read_head(text)
  local stalls = want[3]
  if head[MAX_STALLS] < 0 and stalls then
    head[MAX_STALLS] = stalls[head[NAME]] or stalls[''] or -1
  end
  head[ATTEMPT], head[STARTED], head[WORKER], head[DUE], head[LAST] = head[ATTEMPT] + 1, now, worker, 0, first
  text = write_head(head)
  return { text, middle(text, ''), head[NAME], head[ATTEMPT], {} }
end

-- Moves the picks of one want, whose fences count up from `first`; gives their records.
local function move(want, ids, vs, first)
  local queue = want[1]
  local known, records, fields, names, attempts = {}, {}, {}, {}, {}
  local one_name, one_attempt, size = true, true, #ids
  for i = 1, size do
    local v = vs[i]
    local a, b, c = byte(v, 9, 11)
    local data, from, _ = 16 + a * 65536 + b * 256 + c, 16, nil
    if TIED then _, from = key_in(v, 16) end
    local text = sub(v, from, data - 1)
    local made = known[text]
    if not made then made = claimed_head(text, want, first); known[text] = made end
    local record
    if from == 16 then
      record = 'A' .. seven(first + i - 1) .. made[2] .. sub(v, data)
    else
      local lengths = lengths_with(made[5], from - 16, #made[1])
      record = 'A' .. seven(first + i - 1) .. lengths .. sub(v, 16, from - 1) .. made[1] .. sub(v, data)
    end
    records[i], names[i], attempts[i] = record, made[3], made[4]
    one_name = one_name and made[3] == names[1]
    one_attempt = one_attempt and made[4] == attempts[1]
    fields[2 * i - 1], fields[2 * i] = ids[i], record
  end
  for from = 1, 2 * size, 2 * CHUNK do
    call('HSET', P .. 'jobs:' .. queue, unpack(fields, from, math.min(from + 2 * CHUNK - 1, 2 * size)))
  end
  local fence = seven(first)
  local packed = pack(ids)
  call('HSET', P .. 'claims:' .. queue, fence, packed)
  call('HSET', P .. 'left:' .. queue, fence, size)
  call('ZADD', P .. 'active:' .. queue, now + lease, fence)
  if one_name then
    count(queue, names[1], 'W', 'A', size)
  else
    for i = 1, size do count(queue, names[i], 'W', 'A', 1) end
  end
  names, attempts = one_name and names[1] or names, one_attempt and attempts[1] or attempts
  tell(queue, 'active', ids, names, attempts, nil, packed)
  return records
end

-- Whether nothing waits in a queue any more: by the figures of its open lines, which may hold what was left behind.
local function is_drained(queue)
  local first, lines = 0, nil
  repeat
    lines = call('ZRANGE', P .. 'open:' .. queue, first, first + 9)
    for _, line in ipairs(lines) do
      local name = sub(line, string.find(line, ':', 1, true) + 1)
      if tonumber(call('HGET', P .. 'counts:' .. queue, NUMBER.W .. name) or 0) > 0 then return false end
    end
    first = first + 10
  until #lines < 10
  return true
end

-- The order in which picks are given: queue by queue in turn, as pairs of want and place.
local function in_turn(picks, taken)
  local order, round = {}, 1
  while #order < taken do
    for place = 1, #wants do
      if picks[place].ids[round] then order[#order + 1] = { place, round } end
    end
    round = round + 1
  end
  return order
end

local said, next_ticket
if ticket ~= '' then
  said, next_ticket = said_before()
  if said then return give_again(said) end
end

-- Whether a queue has limits, is held, or has jobs with keys.
local function has_limits(queue)
  local rule, bucket = unpack(call('HMGET', P .. 'limits', queue, queue .. ':bucket'))
  return rule or bucket or call('EXISTS', P .. 'keys:' .. queue) == 1
end

local picks, taken, all_seen, keys_left
if limited and not TIED then
  for _, want in ipairs(wants) do
    if has_limits(want[1]) then return false end
  end
end
if TIED then
  keys_left = look_at_limits(wants)
  picks, taken, all_seen = pick_limited(wants, limit)
else
  for _, want in ipairs(wants) do want.room = math.huge end
  picks, taken, all_seen = pick(wants, limit)
end
local flat, places, since, said_now = {}, {}, {}, {}
local apart = floor(taken / SOME) + 1
for place, want in ipairs(wants) do
  local its = picks[place]
  if #its.ids > 0 then
    local first = take_stamps(#its.ids)
    its.records = move(want, its.ids, its.vs, first)
    said_now[#said_now + 1], said_now[#said_now + 2] = place, seven(first)
    if TIED then use_up(want, #its.ids) end
  end
end
if #wants == 1 then
  for i, record in ipairs(picks[1].records or {}) do flat[2 * i - 1], flat[2 * i] = picks[1].ids[i], record end
  for i = 1, taken, apart do since[#since + 1], since[#since + 2] = i, sub(picks[1].vs[i], 2, 8) end
else
  for i, pair in ipairs(in_turn(picks, taken)) do
    local its = picks[pair[1]]
    flat[2 * i - 1], flat[2 * i], places[i] = its.ids[pair[2]], its.records[pair[2]], pair[1]
    if (i - 1) % apart == 0 then since[#since + 1], since[#since + 2] = i, sub(its.vs[pair[2]], 2, 8) end
  end
end

write_counts()
for place, want in ipairs(wants) do
  if #picks[place].ids > 0 and is_drained(want[1]) then tell_text({ want[1], 'drained', now }, 1, 'j', '[[]]') end
end
local more = taken < limit and (skipped >= MOST_SKIPPED or not all_seen or keys_left) and 1 or 0
if ticket ~= '' and taken > 0 then
  local place = next_ticket % TICKETS
  call('HSET', tickets, 't' .. place, ticket, 'd' .. place, pack(said_now), 'next', next_ticket + 1)
  call('PEXPIRE', tickets, floor(lease / 1000) + 1)
end
if taken > 0 or skipped > 0 or (TIED and ring_list[1]) then finish() end
local wakes = {}
if taken < limit and more == 0 then
  -- Whoever makes a job wait in these queues gives a hint from now on.
  for place, want in ipairs(wants) do
    if not TIED or listens(want, place, wakes) then call('HSET', IDLE, want[1], 1) end
  end
end
return { more, places, flat, wakes, limited and 1 or 0, since }
