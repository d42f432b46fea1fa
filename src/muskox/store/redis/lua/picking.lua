-- picking.lua · which waiting jobs are claimed next, taken out of their lines; part of the claim
-- gives  MOST_SKIPPED, skipped, pick
--
-- A want is queue and names or false; `room` is how many jobs of it may start.

-- One claim in so many goes to the job of its queue that has waited longest, once it has waited so long.
local AGED_TURN, AGED_AFTER, MOST_LEVELS = 20, 10000000, 64
-- So many elements that were left behind are skipped at most.
MOST_SKIPPED = 2000

skipped = 0

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
local function open_lines(want, most)
  local queue, wanted, lines, first = want[1], names_of(want), {}, 0
  if want.room < 1 then return lines, false end
  if call('SISMEMBER', P .. 'paused', queue) == 1 then return lines, false end
  while #lines < most do
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

-- At most `most` picks by the number of the want: aged ones first, then each queue in its turn. Of each want no more than
-- it has room for, which is made less by that. Also how many, and whether all lines were looked at.
function pick(wants, most)
  local picks, lines, more_lines, open, taken = {}, {}, {}, {}, 0
  for place, want in ipairs(wants) do
    lines[place], more_lines[place] = open_lines(want, most)
    picks[place] = { ids = {}, vs = {} }
    if #lines[place] > 0 then open[#open + 1] = place end
  end
  local aged = floor((turn + most) / AGED_TURN)
  for _, place in ipairs(open) do
    local want = wants[place]
    local low = aged > taken and lowest_lines(want, lines[place], more_lines[place])
    if low and (has_levels(low) or more_lines[place]) then
      for _ = taken + 1, math.min(aged, taken + want.room) do
        local more = take_oldest(want[1], low, picks[place])
        if more == 0 then break end
        taken, want.room = taken + more, want.room - more
      end
    end
  end
  -- Another queue begins each time, so that claims of single jobs take turns too.
  local rotation = stamp
  while taken < most and #open > 0 and skipped < MOST_SKIPPED do
    local share, still = math.ceil((most - taken) / #open), {}
    for i = 1, #open do
      local place = open[(i + rotation) % #open + 1]
      local want = wants[place]
      local need = math.min(share, most - taken, want.room)
      if need > 0 then
        local more = take_next(want[1], lines[place], need, picks[place])
        taken, want.room = taken + more, want.room - more
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
