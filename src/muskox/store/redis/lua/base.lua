-- base.lua · what every step begins with: the clock, stamps, records, figures and facts
-- KEYS  1 meta; all other keys have its prefix, and so its hash tag
-- ARGV  1 now in microseconds, or "" for the server's clock   2 what the step is about, as msgpack, here ASKED
--       3 how many events are kept
--
-- A record is the text that a job is kept as:
--   state (1 letter) · stamp (7 bytes) · length of head (3) · length of result (4) · head · result · data
-- The stamp is the fence of an active or ended job, and the place in line of a waiting one. The head is a msgpack
-- array of HEAD fields, of which the last may be missing. Result and data are JSON text, an empty result is none.
-- So most moves put a new beginning before a tail that nobody looks into. LAST is the first fence of its claim in
-- the head of an active job, and in that of a waiting one the fence under which it was settled last, if it was.

local call, sub, byte, floor, format = redis.call, string.sub, string.byte, math.floor, string.format
local pack, unpack_text, struct_pack, concat = cmsgpack.pack, cmsgpack.unpack, struct.pack, table.concat
local META = KEYS[1]
local P = sub(META, 1, -5)
local IDLE = P .. 'idle'
local ASKED = unpack_text(ARGV[2])

-- Elements that go to one command at most: twice as many are pushed on Lua's stack.
local CHUNK = 500
-- A clock that is behind the store's by more than these microseconds was set back on purpose.
local SET_BACK = 60000000
local MOST_EVENTS = tonumber(ARGV[3])
-- Facts in one record of events at most.
local MOST_FACTS = 500

local NAME, PRIORITY, ADDED, ATTEMPTS, MAX_STALLS, OPTIONS, ATTEMPT, STALLS, RELEASES = 1, 2, 3, 4, 5, 6, 7, 8, 9
local STARTED, WORKER, DUE, ENDED, CLEAR_AT, LAST, PROGRESS, FAILURE = 10, 11, 12, 13, 14, 15, 16, 17

local NUMBER = { W = 0, D = 1, B = 2, A = 3, C = 4, F = 5, X = 6 }
local ENDED_KEY = { C = 'completed:', F = 'failed:', X = 'cancelled:' }

local now, event, turn
local clock, stamp, first_event

-- --- the clock ----------------------------------------------------------------------

local function seven(number)
  return struct_pack('>I7', number)
end

local function number_of(stamp7)
  return struct.unpack('>I7', stamp7)
end

-- Leases are durations: they move along when the clock was set back by hand.
local function shift_leases(jump)
  for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
    for _, key in ipairs({ P .. 'active:' .. queue, P .. 'leases:' .. queue }) do
      local held = call('ZRANGE', key, 0, -1, 'WITHSCORES')
      for i = 1, #held, 2 do call('ZADD', key, format('%.0f', tonumber(held[i + 1]) - jump), held[i]) end
    end
  end
end

-- Reads clock and counters; for a step that only looks all is left as it is.
local function begin(only_looks)
  local kept = call('HMGET', META, 'stamp', 'clock', 'event', 'turn')
  stamp, clock = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
  event, turn = tonumber(kept[3] or 1), tonumber(kept[4] or 0)
  first_event = event
  if ARGV[1] ~= '' then
    now = tonumber(ARGV[1])
  else
    local time = call('TIME')
    now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  end
  if now < clock then
    if clock - now > SET_BACK then
      if not only_looks then shift_leases(clock - now) end
    else
      now = clock
    end
  end
end

-- Takes `count` stamps and gives the first: greater than all before, and not behind the clock.
local function take_stamps(count)
  local first = stamp + 1
  if first < now then first = now end
  stamp = first + count - 1
  return first
end

-- --- records ------------------------------------------------------------------------

-- The parts of a record: state, stamp, head as text, result, data.
local function open_record(v)
  local a, b, c, d, e, f, g = byte(v, 9, 15)
  local head = 15 + a * 65536 + b * 256 + c
  local result = head + ((d * 256 + e) * 256 + f) * 256 + g
  return sub(v, 1, 1), sub(v, 2, 8), sub(v, 16, head), sub(v, head + 1, result), sub(v, result + 1)
end

local EMPTY = { '', 0, 0, 0, -1, '', 0, 0, 0, 0, '', 0, 0, 0, 0, '', '' }

local function read_head(text)
  local head = unpack_text(text)
  for i = #head + 1, 17 do head[i] = EMPTY[i] end
  return head
end

-- Packed without the fields at its end that say nothing.
local function write_head(head)
  local last = 17
  while head[last] == EMPTY[last] do last = last - 1 end
  local kept = {}
  for i = 1, last do kept[i] = head[i] end
  return pack(kept)
end

-- A record without its state and stamp, up to the data.
local function middle(head_text, result)
  return struct_pack('>I3I4', #head_text, #result) .. head_text .. result
end

local function seal(state, stamp7, head, result, data)
  return state .. stamp7 .. middle(write_head(head), result) .. data
end

-- --- figures ------------------------------------------------------------------------

local deltas = {}

local function count(queue, name, from, to, number)
  local its = deltas[queue]
  if not its then its = {}; deltas[queue] = its end
  if from then
    its[NUMBER[from] .. name] = (its[NUMBER[from] .. name] or 0) - number
    if from == 'W' then its.waiting = (its.waiting or 0) - number end
  end
  if to then
    its[NUMBER[to] .. name] = (its[NUMBER[to] .. name] or 0) + number
    if to == 'W' then its.waiting = (its.waiting or 0) + number end
  end
end

-- Writes what was counted; gives by queue how many wait there now, where that changed.
local function write_counts()
  local waiting = {}
  for queue, its in pairs(deltas) do
    local key = P .. 'counts:' .. queue
    for field, number in pairs(its) do
      if number ~= 0 then
        local left = call('HINCRBY', key, field, number)
        if field == 'waiting' then waiting[queue] = left end
      end
    end
  end
  deltas = {}
  return waiting
end

-- Queues are listed in the order of their making.
local function know_queue(queue)
  if not call('ZSCORE', P .. 'queues', queue) then
    call('ZADD', P .. 'queues', call('ZCARD', P .. 'queues') + 1, queue)
  end
end

-- --- facts --------------------------------------------------------------------------

local function tell_text(queue, kind, size, field, body)
  local last = event + size - 1
  call('XADD', P .. 'events', 'MINID', '~', math.max(0, event - MOST_EVENTS), format('%.0f-%d', last, size),
    'q', queue, 'k', kind, 't', now, field, body)
  event = last + 1
end

-- Facts about jobs by columns: `names` and `attempts` are one for all or a list, `extras` a list of JSON text.
local function tell(queue, kind, ids, names, attempts, extras)
  local size = #ids
  if size <= MOST_FACTS then
    if size > 0 then tell_text(queue, kind, size, 'm', pack({ ids, names, attempts, extras })) end
    return
  end
  for first = 1, size, MOST_FACTS do
    local some, its, tries, more = {}, names, attempts, nil
    if type(names) == 'table' then its = {} end
    if type(attempts) == 'table' then tries = {} end
    if extras then more = {} end
    for i = first, math.min(first + MOST_FACTS - 1, size) do
      local place = i - first + 1
      some[place] = ids[i]
      if its ~= names then its[place] = names[i] end
      if tries ~= attempts then tries[place] = attempts[i] end
      if more then more[place] = extras[i] end
    end
    tell_text(queue, kind, #some, 'm', pack({ some, its, tries, more }))
  end
end

local function tell_one(queue, kind, id, head, extra)
  tell(queue, kind, { id }, head[NAME], head[ATTEMPT], extra and { extra } or nil)
end

-- --- the line of waiting jobs -------------------------------------------------------
-- Per name and priority there is a list of stamp and id, in order; jobs that arrive with a moment of the past, as
-- those do that became due, stand in a small sorted set beside it. A job that leaves the line by hand leaves its
-- element behind, which is known by its stamp.

local woken = {}

local function line_of(head)
  return format('%d:', head[PRIORITY]) .. head[NAME]
end

-- Put a job at the end of its line; gives its record's stamp.
local function arrive(queue, id, head)
  local place = seven(take_stamps(1))
  local line = line_of(head)
  call('RPUSH', P .. 'line:' .. queue .. ':' .. line, place .. id)
  call('ZADD', P .. 'open:' .. queue, head[PRIORITY], line)
  woken[queue] = true
  return place
end

local function is_waiting_at(v, place)
  return v and byte(v, 1) == 87 and sub(v, 2, 8) == place
end

-- Drop what was left behind at the front of a line.
local function trim_line(queue, line)
  local list, jobs = P .. 'line:' .. queue .. ':' .. line, P .. 'jobs:' .. queue
  for _ = 1, 1000 do
    local element = call('LINDEX', list, 0)
    if not element then break end
    if is_waiting_at(call('HGET', jobs, sub(element, 8)), sub(element, 1, 7)) then return end
    call('LPOP', list)
  end
  if call('EXISTS', list, P .. 'early:' .. queue .. ':' .. line) == 0 then
    call('ZREM', P .. 'open:' .. queue, line)
  end
end

-- --- leases -------------------------------------------------------------------------
-- The jobs of one claim have a lease together: its first fence, the ids in the order of their fences, and how many of
-- them it still concerns. A job whose lease was renewed has an end of its own in a sorted set beside it.

local function is_active_under(v, token)
  return v and byte(v, 1) == 65 and sub(v, 2, 8) == token
end

-- Tell a claim that so many of its jobs are active no more.
local function leave_claim(queue, first, number)
  if call('HINCRBY', P .. 'left:' .. queue, first, -number) <= 0 then
    call('HDEL', P .. 'left:' .. queue, first)
    call('HDEL', P .. 'claims:' .. queue, first)
    call('ZREM', P .. 'active:' .. queue, first)
  end
end

-- The ids of a claim by their fences: pairs of fence and id.
local function fences_of(queue, first)
  local text, pairs_ = call('HGET', P .. 'claims:' .. queue, first), {}
  local number = text and number_of(first)
  for i, id in ipairs(text and unpack_text(text) or {}) do pairs_[i] = { seven(number + i - 1), id } end
  return pairs_
end

-- All active jobs of a queue, each as id and record.
local function active_jobs(queue)
  local jobs, found, seen = P .. 'jobs:' .. queue, {}, {}
  local function add(token, id)
    local v = not seen[id] and call('HGET', jobs, id)
    if is_active_under(v, token) then
      seen[id] = true
      found[#found + 1] = { id, v }
    end
  end
  for _, first in ipairs(call('ZRANGE', P .. 'active:' .. queue, 0, -1)) do
    for _, pair in ipairs(fences_of(queue, first)) do add(pair[1], pair[2]) end
  end
  for _, member in ipairs(call('ZRANGE', P .. 'leases:' .. queue, 0, -1)) do add(sub(member, 1, 7), sub(member, 8)) end
  return found
end

-- --- the end ------------------------------------------------------------------------

local function finish()
  local waiting = write_counts()
  call('HSET', META, 'stamp', stamp, 'clock', now, 'event', event, 'turn', turn)
  for queue in pairs(woken) do
    if call('HDEL', IDLE, queue) == 1 then call('PUBLISH', P .. 'hints', queue) end
  end
  if event ~= first_event and call('HDEL', IDLE, '!') == 1 then call('PUBLISH', P .. 'hints', '!') end
  return waiting
end
