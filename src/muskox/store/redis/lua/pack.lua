-- pack.lua · read the first jobs of a queue in a state, with all that is kept of them
-- needs  records
-- needs  lines
-- ASKED  queue, state, how many at most
-- RETURNS  per job: id, record, arrival, lines of its log
-- Writes nothing.

begin(true)
local QUEUE, STATE, LIMIT = unpack(ASKED)
local JOBS = P .. 'jobs:' .. QUEUE
local found = {}

local function put(id, v, arrival)
  found[#found + 1] = id
  found[#found + 1] = v
  found[#found + 1] = arrival
  found[#found + 1] = call('LRANGE', P .. 'log:' .. QUEUE .. ':' .. id, 0, -1)
end

-- The first of one line, each with the stamp by which it stands there.
local function front_of(line, all)
  local name = QUEUE .. ':' .. line
  local due = call('ZRANGE', P .. 'early:' .. name, 0, LIMIT - 1, 'WITHSCORES')
  for i = 1, #due, 2 do all[#all + 1] = { tonumber(due[i + 1]), 0, #all, due[i] } end
  local first, kept = 0, 0
  while kept < LIMIT do
    local elements = call('LRANGE', P .. 'line:' .. name, first, first + LIMIT - 1)
    for _, element in ipairs(elements) do
      if is_waiting_at(call('HGET', JOBS, sub(element, 8)), sub(element, 1, 7)) then
        kept = kept + 1
        all[#all + 1] = { number_of(sub(element, 1, 7)), 1, #all, element }
      end
    end
    if #elements < LIMIT then break end
    first = first + #elements
  end
end

local function before(one, other)
  for i = 1, 3 do
    if one[i] ~= other[i] then return one[i] < other[i] end
  end
  return false
end

local function waiting()
  local open = call('ZREVRANGE', P .. 'open:' .. QUEUE, 0, -1, 'WITHSCORES')
  local at = 1
  while at < #open and #found < 4 * LIMIT do
    local priority, all = open[at + 1], {}
    while open[at + 1] == priority do
      front_of(open[at], all)
      at = at + 2
    end
    table.sort(all, before)
    for _, its in ipairs(all) do
      local id = sub(its[4], 8)
      local v = call('HGET', JOBS, id)
      if #found < 4 * LIMIT and is_waiting_at(v, sub(its[4], 1, 7)) then put(id, v, its[1]) end
    end
  end
end

local function along(keys, arrival_of)
  local all = {}
  for _, key in ipairs(keys) do
    local its = call('ZRANGE', P .. key .. QUEUE, 0, LIMIT - 1, 'WITHSCORES')
    for i = 1, #its, 2 do all[#all + 1] = { tonumber(its[i + 1]), 0, #all, its[i] } end
  end
  table.sort(all, before)
  for i = 1, math.min(LIMIT, #all) do
    local v = call('HGET', JOBS, all[i][4])
    if v then put(all[i][4], v, read_head(select(3, open_record(v)))[arrival_of]) end
  end
end

-- Those that are blocked by their keys, key by key in the order of their line.
local function behind_others()
  local after = '-'
  while #found < 4 * LIMIT do
    local keys = call('ZRANGEBYLEX', P .. 'key-names:' .. QUEUE, after, '+', 'LIMIT', 0, CHUNK)
    for _, key in ipairs(keys) do
      for _, member in ipairs(call('ZRANGE', P .. 'key-line:' .. QUEUE .. ':' .. key, 0, LIMIT - #found / 4 - 1)) do
        local v = #found < 4 * LIMIT and call('HGET', JOBS, sub(member, 8))
        if v and sub(v, 1, 8) == 'B' .. sub(member, 1, 7) then
          put(sub(member, 8), v, number_of(sub(member, 1, 7)))
        end
      end
    end
    if #keys < CHUNK then return end
    after = '(' .. keys[#keys]
  end
end

if STATE == 'W' then
  waiting()
elseif STATE == 'B' then
  behind_others()
elseif STATE == 'D' then
  along({ 'delayed:' }, DUE)
elseif ENDED_KEY[STATE] then
  along({ ENDED_KEY[STATE], 'own-' .. ENDED_KEY[STATE] }, ADDED)
end
return found
