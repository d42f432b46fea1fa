-- adopt.lua · store jobs of another store as they are there; known ids are left as they are
-- needs  records
-- needs  lines
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- ASKED  per job: queue, id, state, head, result, data, arrival, lines of its log (moment and text in turn), its rule
--        where it has a dedup key (see dedup.lua) or false
-- RETURNS  the numbers (from 1) of those that are blocked here, and of those that wait; then number and record of each
--          job whose id was known

begin()
local known, put_as = {}, { B = {}, W = {} }

-- Put a job where its state keeps it; gives state and stamp for its record.
local function put(queue, id, state, head, arrival)
  if state == 'W' or state == 'B' then return arrive(queue, id, head, arrival) end
  if state == 'D' then
    call('ZADD', P .. 'delayed:' .. queue, head[DUE], id)
  elseif head[CLEAR_AT] > 0 then
    call('ZADD', P .. 'own-' .. ENDED_KEY[state] .. queue, head[ENDED], id)
    call('ZADD', P .. 'until:' .. queue, head[CLEAR_AT], id)
  else
    call('ZADD', P .. ENDED_KEY[state] .. queue, head[ENDED], id)
  end
  return state, '\0\0\0\0\0\0\0'
end

local run = {}

-- Tells of those that came one after the other with the same queue and state.
local function tell_run()
  if FACT[run.state] then tell(run.queue, FACT[run.state], run.ids, run.names, run.attempts) end
end

for number, job in ipairs(ASKED) do
  local queue, id, state, head, result, data, arrival, lines, rule = unpack(job)
  local jobs = P .. 'jobs:' .. queue
  local v = call('HGET', jobs, id)
  if v then
    known[#known + 1], known[#known + 2] = number, v
  else
    know_queue(queue)
    local stamp7
    state, stamp7 = put(queue, id, state, head, arrival)
    call('HSET', jobs, id, seal(state, stamp7, head, result, data))
    if put_as[state] then put_as[state][#put_as[state] + 1] = number end
    for i = 1, #lines, 2 do
      call('RPUSH', P .. 'log:' .. queue .. ':' .. id, seven(lines[i]) .. lines[i + 1])
    end
    if rule and (rule[2] == 2 or is_unended(state)) and not holder_of(queue, rule[1]) then
      hold_key(queue, rule, id, head[ADDED])
    end
    if is_unended(state) then expire_later(queue, head[OPTIONS], { id }, head[ADDED]) end
    count(queue, head[NAME], nil, state, 1)
    if run.queue ~= queue or run.state ~= state then
      tell_run()
      run = { queue = queue, state = state, ids = {}, names = {}, attempts = {} }
    end
    local place = #run.ids + 1
    run.ids[place], run.names[place], run.attempts[place] = id, head[NAME], head[ATTEMPT]
  end
end

tell_run()
finish()
return { put_as.B, put_as.W, known }
