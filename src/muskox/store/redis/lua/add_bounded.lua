-- add_bounded.lua · store new jobs where queues bound how many may wait in them: all, or none where they do not fit
-- needs  records
-- needs  lines
-- needs  leases
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- needs  nodes
-- needs  flowing
-- needs  moving
-- needs  bounds
-- needs  once
-- ASKED  as add_once.lua
-- RETURNS  as add_once.lua; or -1, a queue that is full, how many may wait in it, how many do, how many were to come, and
--          1 when who adds is to wait for room

begin()

-- The figures of a queue: how many jobs wait in line, and how many are blocked.
local function waiting_in(queue)
  local waiting, blocked, figures = 0, 0, call('HGETALL', P .. 'counts:' .. queue)
  for i = 1, #figures, 2 do
    local state = byte(figures[i], 1)
    if state == 48 then waiting = waiting + tonumber(figures[i + 1]) end
    if state == 50 then blocked = blocked + tonumber(figures[i + 1]) end
  end
  return waiting, blocked
end

-- How many jobs would come to wait, by queue; and how many of them stand in line for sure.
local function coming()
  local new, seen = {}, {}
  for place, group in ipairs(groups) do
    local queue, rule = group[1], rules[place]
    local its = new[queue]
    if not its then its = { all = 0, free = 0 }; new[queue], new[#new + 1] = its, queue end
    for i, id in ipairs(group[8]) do
      local name = queue .. ':' .. id
      local comes = group[4] < 0 and not seen[name] and call('HEXISTS', P .. 'jobs:' .. queue, id) == 0
      seen[name] = true
      if comes and not (rule and holder_of(queue, rule[1])) then
        its.all = its.all + 1
        if not group[10] or group[10][i][1] == '' then its.free = its.free + 1 end
      end
    end
  end
  return new
end

-- The job that is dropped first: of the lowest priority the one that has waited longest.
local function first_to_go(queue)
  local open, found = P .. 'open:' .. queue, nil
  while not found do
    local lowest = call('ZRANGE', open, 0, 0, 'WITHSCORES')
    if not lowest[1] then return nil end
    for _, line in ipairs(call('ZRANGEBYSCORE', open, lowest[2], lowest[2])) do
      trim_line(queue, line)
      local list, early = P .. 'line:' .. queue .. ':' .. line, P .. 'early:' .. queue .. ':' .. line
      local element, due = call('LINDEX', list, 0), call('ZRANGE', early, 0, 0, 'WITHSCORES')
      local arrival = element and number_of(sub(element, 1, 7))
      if due[1] and (not arrival or tonumber(due[2]) <= arrival) then
        element, arrival = due[1], tonumber(due[2])
      end
      if element and (not found or arrival < found.arrival) then found = { id = sub(element, 8), arrival = arrival } end
    end
  end
  return found.id
end

local function drop(queue, number)
  for _ = 1, number do
    local id = first_to_go(queue)
    if not id then return end
    move_jobs(queue, { { id, call('HGET', P .. 'jobs:' .. queue, id) } }, 'removed', function(_, its, head)
      end_window(queue, its, head)
      call('HDEL', P .. 'jobs:' .. queue, its)
      call('DEL', P .. 'log:' .. queue .. ':' .. its)
      gone(head)
    end, add_later)
  end
end

local said = refused()
if said then return said end

local new, drops = coming(), {}
for _, queue in ipairs(new) do
  local most, text = bound_of(queue)
  if most and new[queue].all > 0 then
    local waiting, blocked = waiting_in(queue)
    local excess = waiting + blocked + new[queue].all - most
    local may_drop = string.find(text, '"drop-oldest"', 1, true) and excess <= waiting + new[queue].free
    if excess > 0 and not may_drop then
      return { -1, queue, most, waiting + blocked, new[queue].all, string.find(text, '"when_full":"wait"', 1, true) and 1 or 0 }
    end
    if excess > 0 then drops[queue] = excess end
  end
end
local answer = add_all()
for queue, number in pairs(drops) do drop(queue, number) end
finish()
return answer
