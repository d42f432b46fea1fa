-- standing.lua · where a job stands, and how many are claimed before it
-- needs  records
-- needs  lines
-- needs  leases
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  nodes
-- needs  showing
-- ASKED  queue, id, names of those before it or false for any, how many are counted of each kind at most
-- RETURNS  nothing when it is not there; else record, now, 1 when the queue is paused, how many of higher priority and
--          how many of the same but earlier (of a waiting one, of a blocked one of its key), the end of the lease (of an
--          active one, else ""), and what showing.lua shows of its queue, where that has limits, and of its key, where it
--          has one, else false; the ids of active jobs of that key, by their start; the parents of a
--          blocked one that have not ended, as nodes.lua gives them
-- Writes nothing.

begin(true)
local QUEUE, ID, NAMES, MOST = unpack(ASKED)
local MOST_PARENTS = 10
local JOBS = P .. 'jobs:' .. QUEUE
local v = call('HGET', JOBS, ID)
if not v then return {} end
local state, place, text = open_record(v)
local head = read_head(text)
local paused = call('SISMEMBER', P .. 'paused', QUEUE)

local function lease_end()
  local own = call('ZSCORE', P .. 'leases:' .. QUEUE, place .. ID)
  return own or call('ZSCORE', P .. 'active:' .. QUEUE, seven(head[LAST])) or ''
end

local limits, key, holders = false, false, {}

-- The first active jobs of the job's key.
local function active_of_key()
  local found, ids = {}, {}
  for _, pair in ipairs(active_jobs(QUEUE)) do
    local its = read_head(select(3, open_record(pair[2])))
    if its[KEY] == head[KEY] then found[#found + 1] = { its[STARTED], pair[1] } end
  end
  table.sort(found, function(one, other)
    if one[1] ~= other[1] then return one[1] < other[1] end
    return one[2] < other[2]
  end)
  for i = 1, math.min(MOST, #found) do ids[i] = found[i][2] end
  return ids
end

if limited then
  local its = read_limits(QUEUE)
  if its.text ~= '{}' or held_until(its) then limits = show_queue(QUEUE) end
end
if head[KEY] ~= '' then
  local ring = ring_of(QUEUE)
  read_keys(ring, { head[KEY] })
  key, holders = show_key(key_of(ring, head[KEY])), active_of_key()
end

if state == 'B' and place == BEHIND then
  return { v, now, paused, 0, 0, '', limits, key, holders, parents_of(QUEUE, ID, head, true, MOST_PARENTS) }
end
if state == 'B' then
  local line, member = key_line(ring_of(QUEUE), head[KEY]), place .. ID
  local before = call('ZCOUNT', line, '-inf', format('(%d', -head[PRIORITY]))
  local earlier = (call('ZRANK', line, member) or before) - before
  return { v, now, paused, math.min(before, MOST), math.min(earlier, MOST), '', limits, key, holders, {} }
end
if state ~= 'W' then
  return { v, now, paused, 0, 0, state == 'A' and lease_end() or '', limits, key, holders, {} }
end

local wanted
if NAMES then
  wanted = {}
  for _, name in ipairs(NAMES) do wanted[name] = true end
end

local function name_of(line)
  return sub(line, string.find(line, ':', 1, true) + 1)
end

local function keys_of(line)
  return P .. 'line:' .. QUEUE .. ':' .. line, P .. 'early:' .. QUEUE .. ':' .. line
end

local open = call('ZREVRANGE', P .. 'open:' .. QUEUE, 0, -1, 'WITHSCORES')

-- Names in whose lines there is more than what waits: elements that were left behind. Only these are walked.
local function littered()
  local sizes, found = {}, {}
  for i = 1, #open, 2 do
    local name, list, early = name_of(open[i]), keys_of(open[i])
    sizes[name] = (sizes[name] or 0) + call('LLEN', list) + call('ZCARD', early)
  end
  for name, size in pairs(sizes) do
    found[name] = size ~= tonumber(call('HGET', P .. 'counts:' .. QUEUE, NUMBER.W .. name) or 0)
  end
  return found
end

local has_litter = littered()

-- How many jobs wait among the first `last` elements of a list; of the first 2 * MOST, the rest is taken for jobs.
local function waiting_in(line, last)
  if not has_litter[name_of(line)] then return last end
  local list, number, looked = keys_of(line), 0, math.min(last, 2 * MOST)
  for first = 0, looked - 1, CHUNK do
    for _, element in ipairs(call('LRANGE', list, first, math.min(first + CHUNK, looked) - 1)) do
      if is_waiting_at(call('HGET', JOBS, sub(element, 8)), sub(element, 1, 7)) then number = number + 1 end
    end
  end
  return number + last - looked
end

-- The place in a list of the first element whose stamp is not less than `arrival`.
local function first_from(list, arrival)
  local low, high = 0, call('LLEN', list)
  while low < high do
    local middle_ = floor((low + high) / 2)
    if number_of(sub(call('LINDEX', list, middle_), 1, 7)) >= arrival then high = middle_ else low = middle_ + 1 end
  end
  return low
end

local own = line_of(head)
local _, own_early = keys_of(own)
local was_due = call('ZSCORE', own_early, place .. ID)
local arrival = was_due and tonumber(was_due) or number_of(place)

-- Those of a line of the same priority that arrived before it; at the same moment those that became due go first.
local function before_in(line)
  local list, early = keys_of(line)
  local number = waiting_in(line, first_from(list, arrival))
  if was_due and line == own then return number + call('ZRANK', early, place .. ID) end
  return number + call('ZCOUNT', early, '-inf', format(was_due and '(%.0f' or '%.0f', arrival))
end

local higher, earlier = 0, 0
for i = 1, #open, 2 do
  local line, priority = open[i], tonumber(open[i + 1])
  if not wanted or wanted[name_of(line)] then
    if priority > head[PRIORITY] and higher < MOST then
      local list, early = keys_of(line)
      higher = higher + waiting_in(line, call('LLEN', list)) + call('ZCARD', early)
    elseif priority == head[PRIORITY] and earlier < MOST then
      earlier = earlier + before_in(line)
    end
  end
end
return { v, now, paused, math.min(higher, MOST), math.min(earlier, MOST), '', limits, key, holders, {} }
