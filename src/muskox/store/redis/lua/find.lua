-- find.lua · a page of jobs in one state
-- needs  records
-- needs  lines
-- needs  leases
-- ASKED  queue, state, names or false, how many at most, where the page before ended or false: for waiting jobs
--        priority, arrival, 0 or 1 (became due, in line), stamp, id and line, for all others score and id
-- RETURNS  id and record in turn, and where this page ends (nothing: the state has no more)
-- Writes nothing.

begin(true)
local QUEUE, STATE, NAMES, LIMIT, AFTER = unpack(ASKED)
local JOBS = P .. 'jobs:' .. QUEUE
-- Records that one page looks at, at most; a page may be short for that.
local MOST_SEEN = 5000
local rows, seen = {}, 0
local wanted
if NAMES then
  wanted = {}
  for _, name in ipairs(NAMES) do wanted[name] = true end
end

local function fits(v)
  return not wanted or wanted[read_head(select(3, open_record(v)))[NAME]]
end

local function full()
  return #rows >= 2 * LIMIT or seen >= MOST_SEEN
end

-- Where a walk along a sorted set goes on after a score and member that may be gone.
local function rank_after(key, reverse, score, member)
  local there = call('ZSCORE', key, member)
  if there and tonumber(there) == score then
    return call(reverse and 'ZREVRANK' or 'ZRANK', key, member) + 1
  end
  local at = reverse and call('ZCOUNT', key, format('(%.0f', score), '+inf')
    or call('ZCOUNT', key, '-inf', format('(%.0f', score))
  for _, other in ipairs(call('ZRANGEBYSCORE', key, format('%.0f', score), format('%.0f', score))) do
    if (reverse and other > member) or (not reverse and other < member) then at = at + 1 end
  end
  return at
end

-- --- delayed, blocked and ended: along their sorted sets -------------------------------------

local function source(key, reverse)
  local its = { at = AFTER and rank_after(key, reverse, AFTER[1], AFTER[2]) or 0, ids = {}, place = 1 }
  function its.front()
    if not its.ids[its.place] then
      its.ids = call(reverse and 'ZREVRANGE' or 'ZRANGE', key, its.at, its.at + LIMIT - 1, 'WITHSCORES')
      its.at, its.place = its.at + #its.ids / 2, 1
    end
    return its.ids[its.place], tonumber(its.ids[its.place + 1])
  end
  return its
end

local function along_sets(reverse, ...)
  local sources, last = {}, nil
  for i, key in ipairs({ ... }) do sources[i] = source(P .. key .. QUEUE, reverse) end
  while not full() do
    local best, id, score
    for _, one in ipairs(sources) do
      local member, its = one.front()
      local before = member and id and (reverse and (its > score or (its == score and member > id))
        or not reverse and (its < score or (its == score and member < id)))
      if member and (not best or before) then best, id, score = one, member, its end
    end
    if not best then return nil end
    best.place = best.place + 2
    seen, last = seen + 1, { score, id }
    local v = call('HGET', JOBS, id)
    if v and sub(v, 1, 1) == STATE and fits(v) then rows[#rows + 1] = id; rows[#rows + 1] = v end
  end
  return last
end

-- --- active: few, by the moment they were started -----------------------------------

local function active()
  local all = {}
  for _, pair in ipairs(active_jobs(QUEUE)) do
    local id, v = pair[1], pair[2]
    if fits(v) then all[#all + 1] = { read_head(select(3, open_record(v)))[STARTED], id, v } end
  end
  table.sort(all, function(one, other)
    if one[1] ~= other[1] then return one[1] < other[1] end
    return one[2] < other[2]
  end)
  local last
  for _, its in ipairs(all) do
    if full() then return last end
    if not AFTER or its[1] > AFTER[1] or (its[1] == AFTER[1] and its[2] > AFTER[2]) then
      rows[#rows + 1], rows[#rows + 2], last = its[2], its[3], { its[1], its[2] }
    end
  end
end

-- --- waiting: line by line of one name, along each by arrival -----------------------

-- The place in a list of the first element whose stamp is greater than `arrival`, or equal with `same`.
local function first_in_list(list, arrival, same)
  local low, high = 0, call('LLEN', list)
  while low < high do
    local middle_ = floor((low + high) / 2)
    local its = number_of(sub(call('LINDEX', list, middle_), 1, 7))
    if its > arrival or (same and its == arrival) then high = middle_ else low = middle_ + 1 end
  end
  return low
end

local function along_line(line, priority, after)
  local name = QUEUE .. ':' .. line
  local list, early = P .. 'line:' .. name, P .. 'early:' .. name
  local in_list, in_early, last = 0, 0, nil
  if after then
    in_list = first_in_list(list, after[2], after[3] == 0)
    in_early = rank_after(early, false, after[2], after[3] == 0 and seven(after[4]) .. after[5] or '\255')
  end
  local elements, place, due, due_place = {}, 1, {}, 1
  while not full() do
    if not elements[place] then
      elements, place = call('LRANGE', list, in_list, in_list + LIMIT - 1), 1
      in_list = in_list + #elements
    end
    if not due[due_place] then
      due, due_place = call('ZRANGE', early, in_early, in_early + LIMIT - 1, 'WITHSCORES'), 1
      in_early = in_early + #due / 2
    end
    local element, arrival = elements[place], elements[place] and number_of(sub(elements[place], 1, 7))
    if due[due_place] and (not element or tonumber(due[due_place + 1]) <= arrival) then
      element, arrival = due[due_place], tonumber(due[due_place + 1])
      due_place, last = due_place + 2, { priority, arrival, 0, element, line }
    elseif element then
      place, last = place + 1, { priority, arrival, 1, element, line }
    else
      return nil
    end
    seen = seen + 1
    local v = call('HGET', JOBS, sub(element, 8))
    if is_waiting_at(v, sub(element, 1, 7)) then rows[#rows + 1] = sub(element, 8); rows[#rows + 1] = v end
  end
  local element = last[4]
  return { priority, last[2], last[3], number_of(sub(element, 1, 7)), sub(element, 8), line }
end

local function waiting()
  local open = call('ZREVRANGE', P .. 'open:' .. QUEUE, 0, -1, 'WITHSCORES')
  for i = 1, #open, 2 do
    local line, priority = open[i], tonumber(open[i + 1])
    local name = sub(line, string.find(line, ':', 1, true) + 1)
    -- Lines of one priority come in falling order.
    local ahead = not AFTER or priority < AFTER[1] or (priority == AFTER[1] and line <= AFTER[6])
    if ahead and (not wanted or wanted[name]) then
      local last = along_line(line, priority, AFTER and line == AFTER[6] and AFTER or nil)
      if last then return last end
    end
  end
end

local ends
if STATE == 'W' then
  ends = waiting()
elseif STATE == 'A' then
  ends = active()
elseif STATE == 'B' then
  ends = along_sets(false, 'blocked:')
elseif STATE == 'D' then
  ends = along_sets(false, 'delayed:')
elseif ENDED_KEY[STATE] then
  ends = along_sets(true, ENDED_KEY[STATE], 'own-' .. ENDED_KEY[STATE])
end
return { rows, ends or {} }
