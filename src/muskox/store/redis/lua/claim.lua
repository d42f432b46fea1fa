-- claim.lua · move waiting jobs to active, each with a lease and a fence of its own
-- needs  records
-- needs  lines
-- needs  leases
-- ASKED  worker, lease in µs, limit, ticket, then per want: queue, names or false, stalls allowed by name or false
-- RETURNS  1 when more may wait behind what was skipped, number of the want of each job (empty: all of the first),
--          id and record of each job in turn
-- May run without memory to spare: what is claimed can then be settled, which makes room.

-- One claim in so many goes to the job of its queue that has waited longest, once it has waited so long.
local AGED_TURN, AGED_AFTER, MOST_LEVELS = 20, 10000000, 64
-- So many elements that were left behind are skipped at most.
local MOST_SKIPPED = 2000
-- A worker has two claims on their way at most.
local TICKETS = 4

local worker, lease, limit, ticket, wants = ASKED[1], ASKED[2], ASKED[3], ASKED[4], ASKED[5]
local tickets = P .. 'tickets:' .. worker
local skipped = 0

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
  return { 0, places, flat }
end

-- --- lines --------------------------------------------------------------------------

-- Which names of a want are wanted: a set, or nil for all.
local function names_of(want)
  if not want[2] then return nil end
  local wanted = {}
  for _, name in ipairs(want[2]) do wanted[name] = true end
  return wanted
end

local function add_wanted(lines, open, wanted)
  for i = 1, #open, 2 do
    local line = open[i]
    if not wanted or wanted[sub(line, string.find(line, ':', 1, true) + 1)] then
      lines[#lines + 1] = { line, tonumber(open[i + 1]) }
    end
  end
end

-- The wanted lines of a queue by priority, { line, priority }: as many as there may be jobs to claim, since each has
-- one at least. Also whether there are more.
local function open_lines(want)
  local queue, wanted, lines, first = want[1], names_of(want), {}, 0
  if call('SISMEMBER', P .. 'paused', queue) == 1 then return lines, false end
  while #lines < limit do
    local open = call('ZREVRANGE', P .. 'open:' .. queue, first, first + CHUNK - 1, 'WITHSCORES')
    add_wanted(lines, open, wanted)
    first = first + CHUNK
    if #open < 2 * CHUNK then return lines, false end
  end
  return lines, true
end

-- The wanted lines of the lowest priorities, lowest last.
local function lowest_lines(want, lines, are_more)
  if are_more then
    lines = {}
    add_wanted(lines, call('ZRANGE', P .. 'open:' .. want[1], 0, MOST_LEVELS - 1, 'WITHSCORES'), names_of(want))
    table.sort(lines, function(one, other) return one[2] > other[2] end)
  end
  return lines
end

-- The keys of a line: its list, and the sorted set of those that arrived with a moment of the past.
local function keys_of(queue, line)
  local name = queue .. ':' .. line
  return P .. 'line:' .. name, P .. 'early:' .. name
end

local function close_if_empty(queue, line, list, early)
  if call('EXISTS', list, early) == 0 then call('ZREM', P .. 'open:' .. queue, line) end
end

-- Adds those of the elements that still wait to the picks; gives how many.
local function keep_waiting(queue, elements, picks)
  local ids, vs, found = picks.ids, picks.vs, #picks.ids
  local before = found
  for first = 1, #elements, CHUNK do
    local some = {}
    for i = first, math.min(first + CHUNK - 1, #elements) do some[#some + 1] = sub(elements[i], 8) end
    for i, v in ipairs(call('HMGET', P .. 'jobs:' .. queue, unpack(some))) do
      if is_waiting_at(v, sub(elements[first + i - 1], 1, 7)) then
        found = found + 1
        ids[found], vs[found] = some[i], v
      end
    end
  end
  skipped = skipped + #elements - (found - before)
  return found - before
end

-- Takes at most `need` elements from the front of one line.
local function take_from_line(queue, line, need, picks)
  local list, early = keys_of(queue, line)
  if call('EXISTS', early) == 1 then return nil end
  local taken = 0
  while taken < need and skipped < MOST_SKIPPED do
    local elements = call('LPOP', list, need - taken)
    if not elements then break end
    taken = taken + keep_waiting(queue, elements, picks)
  end
  close_if_empty(queue, line, list, early)
  return taken
end

-- The fronts of several lines of one priority and of the early ones beside them, each as a list of
-- { place, stamp of arrival, element, is early } and whether there may be more behind it.
local function peek_fronts(queue, lines, need)
  local fronts, size = {}, math.max(4, math.min(CHUNK, 2 * math.ceil(need / #lines)))
  for place, line in ipairs(lines) do
    local list, early = keys_of(queue, line[1])
    local elements, due = call('LRANGE', list, 0, size - 1), call('ZRANGE', early, 0, size - 1, 'WITHSCORES')
    if #elements > 0 then
      local front = { at = 1, place = place, elements = elements, more = #elements == size, early = false }
      fronts[#fronts + 1] = front
    end
    if #due > 0 then
      local front = { at = 1, place = place, elements = {}, arrivals = {}, more = #due == 2 * size, early = true }
      for i = 1, #due, 2 do
        front.elements[(i + 1) / 2], front.arrivals[(i + 1) / 2] = due[i], seven(tonumber(due[i + 1]))
      end
      fronts[#fronts + 1] = front
    end
  end
  return fronts
end

-- Merges fronts by arrival until enough are found or one of them must be looked at again.
local function merge_fronts(fronts, need)
  local elements = {}
  while #elements < need do
    local best, first
    for _, front in ipairs(fronts) do
      local element = front.elements[front.at]
      if element then
        local arrival = front.early and front.arrivals[front.at] or sub(element, 1, 7)
        if not best or arrival < first or (arrival == first and front.early) then best, first = front, arrival end
      elseif front.more then
        return elements
      end
    end
    if not best then break end
    elements[#elements + 1] = best.elements[best.at]
    best.at = best.at + 1
  end
  return elements
end

-- Takes at most `need` jobs from lines of one priority.
local function take_merged(queue, lines, need, picks)
  local taken = 0
  while taken < need and skipped < MOST_SKIPPED do
    local fronts = peek_fronts(queue, lines, need - taken)
    local elements = merge_fronts(fronts, need - taken)
    if #elements == 0 then break end
    for _, front in ipairs(fronts) do
      local list, early = keys_of(queue, lines[front.place][1])
      if front.at > 1 and front.early then
        call('ZREM', early, unpack(front.elements, 1, front.at - 1))
      elseif front.at > 1 then
        call('LPOP', list, front.at - 1)
      end
      close_if_empty(queue, lines[front.place][1], list, early)
    end
    taken = taken + keep_waiting(queue, elements, picks)
  end
  return taken
end

-- --- picking ------------------------------------------------------------------------

-- Takes at most `need` jobs of a queue, higher priority first, then by arrival.
local function take_next(queue, lines, need, picks)
  local taken, at = 0, 1
  while at <= #lines and taken < need and skipped < MOST_SKIPPED do
    local last = at
    while lines[last + 1] and lines[last + 1][2] == lines[at][2] do last = last + 1 end
    local more = last == at and take_from_line(queue, lines[at][1], need - taken, picks)
    if not more then
      local same = {}
      for i = at, last do same[#same + 1] = lines[i] end
      more = take_merged(queue, same, need - taken, picks)
    end
    taken = taken + more
    at = last + 1
  end
  return taken
end

-- The job that has waited longest of the lowest levels, taken if it has waited long enough.
local function take_oldest(queue, lines, picks)
  local oldest
  for i = #lines, math.max(1, #lines - MOST_LEVELS + 1), -1 do
    trim_line(queue, lines[i][1])
    local list, early = keys_of(queue, lines[i][1])
    local element, due = call('LINDEX', list, 0), call('ZRANGE', early, 0, 0, 'WITHSCORES')
    local arrival = element and number_of(sub(element, 1, 7))
    if due[1] and (not arrival or tonumber(due[2]) <= arrival) then
      element, arrival = due[1], tonumber(due[2])
    end
    if element and (not oldest or arrival < oldest.arrival) then
      oldest = { arrival = arrival, element = element, is_early = element == due[1], line = lines[i][1] }
    end
  end
  if not oldest or oldest.arrival > now - AGED_AFTER then return 0 end
  local list, early = keys_of(queue, oldest.line)
  if oldest.is_early then call('ZREM', early, oldest.element) else call('LPOP', list) end
  close_if_empty(queue, oldest.line, list, early)
  return keep_waiting(queue, { oldest.element }, picks)
end

local function has_levels(lines)
  return #lines > 1 and lines[1][2] ~= lines[#lines][2]
end

-- Picks by the number of the want: aged ones first, then each queue in its turn.
local function pick()
  local picks, lines, more_lines, open, taken = {}, {}, {}, {}, 0
  for place, want in ipairs(wants) do
    lines[place], more_lines[place] = open_lines(want)
    picks[place] = { ids = {}, vs = {} }
    if #lines[place] > 0 then open[#open + 1] = place end
  end
  local aged = floor((turn + limit) / AGED_TURN)
  for _, place in ipairs(open) do
    local low = aged > taken and lowest_lines(wants[place], lines[place], more_lines[place])
    if low and (has_levels(low) or more_lines[place]) then
      for _ = taken + 1, aged do
        local more = take_oldest(wants[place][1], low, picks[place])
        if more == 0 then break end
        taken = taken + more
      end
    end
  end
  -- Another queue begins each time, so that claims of single jobs take turns too.
  local rotation = stamp
  while taken < limit and #open > 0 and skipped < MOST_SKIPPED do
    local share, still = math.ceil((limit - taken) / #open), {}
    for i = 1, #open do
      local place = open[(i + rotation) % #open + 1]
      local need = math.min(share, limit - taken)
      if need > 0 then
        local more = take_next(wants[place][1], lines[place], need, picks[place])
        taken = taken + more
        if more == need then still[#still + 1] = place end
      end
    end
    open = still
  end
  turn = (turn + taken) % AGED_TURN
  local all_seen = true
  for _, its_more in ipairs(more_lines) do all_seen = all_seen and not its_more end
  return picks, taken, all_seen
end

-- --- moving -------------------------------------------------------------------------

-- The beginning of a claimed record up to its data, and its head, by the same of the waiting one.
local function claimed_middle(cut, want, first)
  local head = read_head(sub(cut, 8))
  local stalls = want[3]
  if head[MAX_STALLS] < 0 and stalls then
    head[MAX_STALLS] = stalls[head[NAME]] or stalls[''] or -1
  end
  head[ATTEMPT], head[STARTED], head[WORKER], head[DUE], head[LAST] = head[ATTEMPT] + 1, now, worker, 0, first
  return { middle(write_head(head), ''), head[NAME], head[ATTEMPT] }
end

-- Moves the picks of one want, whose fences count up from `first`; gives their records.
local function move(want, ids, vs, first)
  local queue = want[1]
  local known, records, fields, names, attempts = {}, {}, {}, {}, {}
  local one_name, one_attempt, size = true, true, #ids
  for i = 1, size do
    local v = vs[i]
    local a, b, c = byte(v, 9, 11)
    local data = 16 + a * 65536 + b * 256 + c
    local cut = sub(v, 9, data - 1)
    local made = known[cut]
    if not made then made = claimed_middle(cut, want, first); known[cut] = made end
    local record = 'A' .. seven(first + i - 1) .. made[1] .. sub(v, data)
    records[i], names[i], attempts[i] = record, made[2], made[3]
    one_name = one_name and made[2] == names[1]
    one_attempt = one_attempt and made[3] == attempts[1]
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

local picks, taken, all_seen = pick()
local flat, places, said_now = {}, {}, {}
for place, want in ipairs(wants) do
  local its = picks[place]
  if #its.ids > 0 then
    local first = take_stamps(#its.ids)
    its.records = move(want, its.ids, its.vs, first)
    said_now[#said_now + 1], said_now[#said_now + 2] = place, seven(first)
  end
end
if #wants == 1 then
  for i, record in ipairs(picks[1].records or {}) do flat[2 * i - 1], flat[2 * i] = picks[1].ids[i], record end
else
  for i, pair in ipairs(in_turn(picks, taken)) do
    local its = picks[pair[1]]
    flat[2 * i - 1], flat[2 * i], places[i] = its.ids[pair[2]], its.records[pair[2]], pair[1]
  end
end

write_counts()
for place, want in ipairs(wants) do
  if #picks[place].ids > 0 and is_drained(want[1]) then tell_text({ want[1], 'drained', now }, 1, 'j', '[[]]') end
end
local more = taken < limit and (skipped >= MOST_SKIPPED or not all_seen) and 1 or 0
if taken < limit and more == 0 then
  -- Whoever makes a job wait in these queues gives a hint from now on.
  for _, want in ipairs(wants) do call('HSET', IDLE, want[1], 1) end
end
if ticket ~= '' and taken > 0 then
  local place = next_ticket % TICKETS
  call('HSET', tickets, 't' .. place, ticket, 'd' .. place, pack(said_now), 'next', next_ticket + 1)
  call('PEXPIRE', tickets, floor(lease / 1000) + 1)
end
if taken > 0 or skipped > 0 then finish() end
return { more, places, flat }
