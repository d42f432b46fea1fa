-- counts.lua · the figures of queues, and the live workers
-- needs  records
-- needs  lines
-- ASKED  queues (none: all), µs for which a worker lives without a sign of life
-- RETURNS  now, per queue: name, whether it is paused, figures (state and name, how many), lines with the arrival
--          of their first; then per worker: moment and record
-- Writes nothing.

begin(true)
local queues, alive = ASKED[1], ASKED[2]
if not queues then queues = call('ZRANGE', P .. 'queues', 0, -1) end

-- The arrival of the first that waits in a line; of the first hundred elements, where some were left behind.
local function first_in_list(queue, line)
  local jobs, list, last = P .. 'jobs:' .. queue, P .. 'line:' .. queue .. ':' .. line, 0
  repeat
    for _, element in ipairs(call('LRANGE', list, last == 0 and 0 or 1, last)) do
      local place = sub(element, 1, 7)
      if is_waiting_at(call('HGET', jobs, sub(element, 8)), place) then return number_of(place) end
    end
    last = last + 99
  until last > 99
end

local function first_arrival(queue, line)
  local arrival = first_in_list(queue, line)
  local due = call('ZRANGE', P .. 'early:' .. queue .. ':' .. line, 0, 0, 'WITHSCORES')
  if due[1] and (not arrival or tonumber(due[2]) < arrival) then arrival = tonumber(due[2]) end
  return arrival
end

local found = {}
for i, queue in ipairs(queues) do
  local lines = {}
  for _, line in ipairs(call('ZREVRANGE', P .. 'open:' .. queue, 0, 999)) do
    local arrival = first_arrival(queue, line)
    if arrival then lines[#lines + 1] = arrival end
  end
  found[i] = { queue, call('SISMEMBER', P .. 'paused', queue), call('HGETALL', P .. 'counts:' .. queue), lines }
end

local workers = {}
local beats = call('ZRANGEBYSCORE', P .. 'beats', format('%.0f', now - alive), '+inf', 'WITHSCORES')
for i = 1, #beats, 2 do
  workers[#workers + 1] = beats[i + 1]
  workers[#workers + 1] = call('HGET', P .. 'workers', beats[i]) or ''
end
return { now, found, workers }
