-- settle.lua · write what became of runs, each guarded by its lease
-- needs  records
-- needs, tied  lines
-- needs  leases
-- may need, tied  buckets
-- may need, tied  rings
-- may need, tied  keyed
-- needs, tied  ties
-- needs, untied  alone
-- may need, tied  adding
-- may need, tied  adding_tied
-- may need, tied  dedup
-- may need, tied  nodes
-- may need, tied  flowing
-- ASKED  plain completions, per queue: queue, ids, results ("" for none) or false;
--        then all else one by one: queue, kind, id, fence, µs to keep or wait (-1: not said), failure, result, what
--        the fact says beside job and attempt (JSON), 1 when a failure counts as a stall,
--        'key' or 'queue' when that is held for as long as the job would wait, else '';
--        last, per queue, the ids of those among both that somebody waits for
-- ARGV   4 the stamps of the fences of all plain completions, one after the other
-- RETURNS  the numbers of those whose leases were lost, counted from 1 through both lists
-- May run without memory to spare: ended jobs make room.

local plain, others, awaited = ASKED[1], ASKED[2], ASKED[3]
local lost, number = {}, 0

begin()

-- --- completions --------------------------------------------------------------------

-- Whether a record tells that the run was settled so before: as ended, or as one of those that wait again.
local function repeats(v, states, token)
  if not v or not string.find(states, sub(v, 1, 1), 1, true) then return false end
  local state, place, text = open_record(v)
  if state == 'W' or state == 'D' or state == 'B' then return read_head(text)[LAST] == number_of(token) end
  return place == token
end

-- The head of a completed record, the same with the lengths of a head without key and of no result, name, attempt, first
-- fence of the claim, how many have it, the fields where somebody waits, and what `lengths_with` keeps: by the head of the
-- active one without its key.
local function completed_head(text)
  local head = read_head(text)
  local claim = head[LAST]
  head[ENDED], head[LAST], head[FAILURE] = now, 0, ''
  text = write_head(head)
  return { text, middle(text, ''), head[NAME], head[ATTEMPT], claim, 0, is_tied(head) and head, {} }
end

local function complete(queue, ids, results)
  local jobs, leases = P .. 'jobs:' .. queue, P .. 'leases:' .. queue
  local known, size, were_renewed = {}, #ids, call('EXISTS', leases) == 1
  local done, fields, renewed, ends, names, attempts, tied, keys = {}, {}, {}, {}, {}, {}, {}, {}
  local one_name, one_attempt, made = true, true, 0
  -- Written once: each number that goes to a command is printed anew.
  local at = format('%.0f', now)
  for first = 1, size, CHUNK do
    local last = math.min(first + CHUNK - 1, size)
    local vs = call('HMGET', jobs, unpack(ids, first, last))
    for i = first, last do
      local place = 7 * (number + i)
      local v, token, id = vs[i - first + 1], sub(ARGV[4], place - 6, place), ids[i]
      if is_active_under(v, token) then
        local a, b, c = byte(v, 9, 11)
        local data, from, key, result = 16 + a * 65536 + b * 256 + c, 16, '', results and results[i] or ''
        if TIED then key, from = key_in(v, 16) end
        if key ~= '' then keys[#keys + 1] = key end
        local text = sub(v, from, data - 1)
        local head = known[text]
        if not head then head = completed_head(text); known[text] = head end
        made = made + 1
        fields[2 * made - 1] = id
        if result ~= '' then
          fields[2 * made] = 'C' .. token .. middle(sub(v, 16, from - 1) .. head[1], result) .. sub(v, data)
        elseif from == 16 then
          fields[2 * made] = 'C' .. token .. head[2] .. sub(v, data)
        else
          local lengths = lengths_with(head[8], from - 16, #head[1])
          fields[2 * made] = 'C' .. token .. lengths .. sub(v, 16, from - 1) .. head[1] .. sub(v, data)
        end
        head[6] = head[6] + 1
        done[made], names[made], attempts[made] = id, head[3], head[4]
        if head[7] then tied[#tied + 1] = { id, head[7], result } end
        if were_renewed then renewed[made] = token .. id end
        ends[2 * made - 1], ends[2 * made] = at, id
        one_name = one_name and head[3] == names[1]
        one_attempt = one_attempt and head[4] == attempts[1]
      elseif not repeats(v, 'C', token) then
        lost[#lost + 1] = number + i
      end
    end
  end
  number = number + size
  if made == 0 then return end
  for first = 1, made, CHUNK do
    local last = math.min(first + CHUNK - 1, made)
    if were_renewed then call('ZREM', leases, unpack(renewed, first, last)) end
    call('HSET', jobs, unpack(fields, 2 * first - 1, 2 * last))
    call('ZADD', P .. 'completed:' .. queue, unpack(ends, 2 * first - 1, 2 * last))
  end
  local claims = {}
  for _, head in pairs(known) do claims[head[5]] = (claims[head[5]] or 0) + head[6] end
  for claim, number_of_it in pairs(claims) do leave_claim(queue, seven(claim), number_of_it) end
  if one_name then
    count(queue, names[1], 'A', 'C', made)
  else
    for i = 1, made do count(queue, names[i], 'A', 'C', 1) end
  end
  tell(queue, 'completed', done, one_name and names[1] or names, one_attempt and attempts[1] or attempts)
  if #keys > 0 then
    with_keyed()
    end_runs(queue, keys)
  end
  for _, its in ipairs(tied) do
    ended(queue, its[1], its[2], 'C', its[3])
  end
end

-- --- all else -----------------------------------------------------------------------

local KINDS = {
  complete = { 'C', 'completed', 'C' },
  fail = { 'F', 'failed', 'F' },
  retry = { nil, 'retrying', 'WDB' },
  stall = { nil, 'stalled', 'WDB' },
  release = { nil, 'released', 'WDB' },
}

local function end_job(queue, id, token, state, head, keep, result, data)
  local jobs = P .. 'jobs:' .. queue
  count(queue, head[NAME], 'A', keep ~= 0 and state or nil, 1)
  if keep == 0 then
    call('HDEL', jobs, id)
    call('DEL', P .. 'log:' .. queue .. ':' .. id)
    gone(head)
    return
  end
  head[ENDED], head[LAST] = now, 0
  local ended = ENDED_KEY[state] .. queue
  if keep > 0 then
    head[CLEAR_AT] = now + keep
    call('ZADD', P .. 'own-' .. ended, now, id)
    call('ZADD', P .. 'until:' .. queue, head[CLEAR_AT], id)
  else
    call('ZADD', P .. ended, now, id)
  end
  call('HSET', jobs, id, seal(state, token, head, result, data))
end

local function wait_again(queue, id, token, head, delay, data)
  head[LAST] = number_of(token)
  if delay > 0 then
    head[DUE] = now + delay
    call('ZADD', P .. 'delayed:' .. queue, head[DUE], id)
    call('HSET', P .. 'jobs:' .. queue, id, seal('D', token, head, '', data))
    count(queue, head[NAME], 'A', 'D', 1)
    return
  end
  local state, place = arrive(queue, id, head)
  call('HSET', P .. 'jobs:' .. queue, id, seal(state, place, head, '', data))
  count(queue, head[NAME], 'A', state, 1)
  tell_one(queue, FACT[state], id, head)
end

local function settle_one(one)
  local queue, kind, id, fence, moment, failure, result, extra = unpack(one)
  local token = seven(fence)
  local v = call('HGET', P .. 'jobs:' .. queue, id)
  local state, fact, before = unpack(KINDS[kind], 1, 3)
  if not v or sub(v, 1, 8) ~= 'A' .. token then
    if not repeats(v, before, token) then lost[#lost + 1] = number end
    return
  end
  local _, _, text, _, data = open_record(v)
  local head = read_head(text)
  call('ZREM', P .. 'leases:' .. queue, token .. id)
  leave_claim(queue, seven(head[LAST]), 1)
  if kind == 'complete' then
    head[FAILURE] = failure
  elseif failure ~= '' then
    head[FAILURE] = failure
  end
  if kind == 'stall' and extra == '' then extra = tostring(head[STALLS] + 1) end
  tell_one(queue, fact, id, head, extra ~= '' and extra or nil)
  if kind == 'stall' or (kind == 'fail' and one[9] == 1) then
    head[ATTEMPT], head[STALLS] = head[ATTEMPT] - 1, head[STALLS] + 1
  elseif kind == 'release' then
    head[ATTEMPT], head[RELEASES] = head[ATTEMPT] - 1, head[RELEASES] + 1
  end
  if is_tied(head) then left(queue, id, head, 'A') end
  if one[10] ~= '' and not (one[10] == 'key' and head[KEY] == '') then
    with_keyed()
    hold(queue, one[10] == 'key' and head[KEY] or '', moment)
    moment = 0
  end
  if state then
    end_job(queue, id, token, state, head, moment, result, data)
    if is_tied(head) then ended(queue, id, head, state, result) end
  else
    wait_again(queue, id, token, head, math.max(0, moment), data)
  end
end

for _, group in ipairs(plain) do complete(group[1], group[2], group[3]) end
for _, one in ipairs(others) do
  number = number + 1
  settle_one(one)
end
for _, its in ipairs(awaited) do
  with_dedup()
  add_later(its[1], its[2])
end
if TIED and (ends[1] or next(dropped)) then with_flowing() end

finish()
return lost
