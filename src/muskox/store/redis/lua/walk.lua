-- walk.lua · for steps made by hand: the jobs of a selection
-- ASKED  queue, ids or false, states as letters, names or false, how many at most, where to go on: state, source
--        and how many of it were passed over (1, 1, 0 at first)
-- It is read after base.lua and does nothing by itself.

-- Records that one step looks at, at most.
local MOST_SEEN = 5000

local QUEUE, IDS, STATES, NAMES, LIMIT = ASKED[1], ASKED[2], ASKED[3], ASKED[4], ASKED[5]
local JOBS = P .. 'jobs:' .. QUEUE
local wanted
if NAMES then
  wanted = {}
  for _, name in ipairs(NAMES) do wanted[name] = true end
end

local function fits(v)
  return not wanted or wanted[read_head(select(3, open_record(v)))[NAME]]
end

local function by_ids()
  local found, seen = {}, {}
  for _, id in ipairs(IDS) do
    local v = not seen[id] and call('HGET', JOBS, id)
    seen[id] = true
    if v and string.find(STATES, sub(v, 1, 1), 1, true) and fits(v) then found[#found + 1] = { id, v } end
  end
  return found
end

-- Adds those that wait in one line, from its front; whether it saw as much as it may before the end.
local function from_line(found, line, seen)
  trim_line(QUEUE, line)
  local list, early = P .. 'line:' .. QUEUE .. ':' .. line, P .. 'early:' .. QUEUE .. ':' .. line
  for _, element in ipairs(call('ZRANGE', early, 0, LIMIT - #found - 1)) do
    local v = call('HGET', JOBS, sub(element, 8))
    if is_waiting_at(v, sub(element, 1, 7)) then found[#found + 1] = { sub(element, 8), v } end
  end
  local first = 0
  while #found < LIMIT do
    if seen.number >= MOST_SEEN then return true end
    local elements = call('LRANGE', list, first, first + CHUNK - 1)
    for _, element in ipairs(elements) do
      local v = #found < LIMIT and call('HGET', JOBS, sub(element, 8))
      if v and is_waiting_at(v, sub(element, 1, 7)) then found[#found + 1] = { sub(element, 8), v } end
    end
    first, seen.number = first + #elements, seen.number + #elements
    if #elements < CHUNK then return false end
  end
  return false
end

-- Adds waiting ones; whether there may be more that it has not come to. Then it begins at the front again, which is
-- another one by then, since all that is found leaves its line.
local function waiting(found, seen)
  for _, line in ipairs(call('ZREVRANGE', P .. 'open:' .. QUEUE, 0, -1)) do
    if #found >= LIMIT then return false end
    if not wanted or wanted[sub(line, string.find(line, ':', 1, true) + 1)] then
      if from_line(found, line, seen) then return true end
    end
  end
  return false
end

local SOURCES = {
  D = { 'delayed:' }, B = { 'blocked:' },
  C = { 'completed:', 'own-completed:' }, F = { 'failed:', 'own-failed:' }, X = { 'cancelled:', 'own-cancelled:' },
}

-- Adds what fits from one sorted set, having passed over `passed` of it; gives how many it passed over, or nil
-- when it came to its end.
local function from_set(found, state, key, passed, seen)
  local range = ENDED_KEY[state] and 'ZREVRANGE' or 'ZRANGE'
  local taken = 0
  while #found < LIMIT and seen.number < MOST_SEEN do
    local ids = call(range, key, passed + taken, passed + taken + CHUNK - 1)
    if #ids == 0 then return nil end
    for _, id in ipairs(ids) do
      if #found >= LIMIT then return passed end
      local v = call('HGET', JOBS, id)
      seen.number = seen.number + 1
      if v and sub(v, 1, 1) == state and fits(v) then
        found[#found + 1], taken = { id, v }, taken + 1
      else
        passed = passed + 1
      end
    end
  end
  return passed
end

-- The jobs of the selection, each with its record, and where to go on, if there may be more.
local function matching()
  if IDS then return by_ids(), {} end
  local found, seen = {}, { number = 0 }
  local at, source, passed = ASKED[6], ASKED[7], ASKED[8]
  while at <= #STATES do
    local state = sub(STATES, at, at)
    if state == 'W' then
      if waiting(found, seen) then return found, { at, 1, 0 } end
    elseif state == 'A' then
      for _, pair in ipairs(active_jobs(QUEUE)) do
        if #found < LIMIT and fits(pair[2]) then found[#found + 1] = pair end
      end
    else
      while SOURCES[state][source] do
        passed = from_set(found, state, P .. SOURCES[state][source] .. QUEUE, passed, seen)
        if passed then return found, { at, source, passed } end
        source, passed = source + 1, 0
      end
    end
    at, source, passed = at + 1, 1, 0
    if #found >= LIMIT then break end
  end
  return found, at <= #STATES and #found < LIMIT and { at, source, passed } or {}
end

-- Move every job of the selection, as move_jobs in moving.lua does, and give how many were moved and where to go on.
-- `before` is called with the queue and the jobs found.
local function move_all(kind, move, after, before)
  local found, position = matching()
  if before then before(QUEUE, found) end
  move_jobs(QUEUE, found, kind, move, after)
  finish()
  return { #found, position[1] or 0, position[2] or 0, position[3] or 0 }
end
