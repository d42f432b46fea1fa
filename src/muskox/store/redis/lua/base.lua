-- base.lua · what every step begins with: the clock, stamps, records, figures and facts
-- KEYS  1 meta; all other keys have its prefix, and so its hash tag
-- ARGV  1 now in microseconds, or "" for the server's clock   2 what the step is about, as msgpack, here ASKED
--       3 how many events are kept
--
-- A record is the text that a job is kept as:
--   state (1 letter) · stamp (7 bytes) · length of head (3) · length of result (4) · head · result · data
-- The stamp is the fence of an active or ended job, and the place in line of a waiting one. The head is a msgpack
-- array of HEAD fields, of which the last may be missing, and before it may stand the job's key: the byte 193, with which
-- no msgpack begins, length (2), key. Result and data are JSON text, an empty result is none.
-- So most moves put a new beginning before a tail that nobody looks into. LAST is the first fence of its claim in
-- the head of an active job, and in that of a waiting one the fence under which it was settled last, if it was.
--
-- Ids are in the form in which ids.py keeps them: a UUID as the byte 255 and its sixteen, any other as its text.

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
-- After so many facts the old ones are dropped.
local TRIMMED_EACH = 100

local NAME, PRIORITY, ADDED, ATTEMPTS, MAX_STALLS, OPTIONS, ATTEMPT, STALLS, RELEASES = 1, 2, 3, 4, 5, 6, 7, 8, 9
local STARTED, WORKER, DUE, ENDED, CLEAR_AT, LAST, PROGRESS, FAILURE, STEPS = 10, 11, 12, 13, 14, 15, 16, 17, 18
local KEY, FLOW = 19, 20

local NUMBER = { W = 0, D = 1, B = 2, A = 3, C = 4, F = 5, X = 6 }
local ENDED_KEY = { C = 'completed:', F = 'failed:', X = 'cancelled:' }

local now, event, turn
-- Whether any queue of the store has limits, holds or keys; where none has, nobody looks for them.
local limited
-- A clock that is never set back: now, and all that the clock was set back by up to now. Limits go by it.
local steady, set_back
local clock, stamp, first_event
-- What is done before a step's end, while facts can be told and figures be counted.
local endings = {}

-- --- the clock ----------------------------------------------------------------------

local function seven(number)
  return struct_pack('>I7', number)
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
  local kept, has_limits, back = unpack(call('HMGET', META, 'figures', 'limited', 'set_back'))
  limited, set_back = has_limits == '1', tonumber(back or 0)
  if kept then
    stamp, clock, event, turn = struct.unpack('>I7I7I7I1', kept)
  else
    stamp, clock, event, turn = 0, 0, 1, 0
  end
  first_event = event
  if ARGV[1] ~= '' then
    now = tonumber(ARGV[1])
  else
    local time = call('TIME')
    now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  end
  if now < clock then
    if clock - now > SET_BACK then
      set_back = set_back + clock - now
      if not only_looks then
        shift_leases(clock - now)
        call('HSET', META, 'figures', struct_pack('>I7I7I7I1', stamp, now, event, turn), 'set_back', format('%.0f', set_back))
      end
    else
      now = clock
    end
  end
  steady = now + set_back
end

-- Takes `count` stamps and gives the first: greater than all before, and not behind the clock.
local function take_stamps(count)
  local first = stamp + 1
  if first < now then first = now end
  stamp = first + count - 1
  return first
end

-- --- records ------------------------------------------------------------------------

local KEY_MARK = '\193'
local EMPTY = { '', 0, 0, 0, -1, '', 0, 0, 0, 0, '', 0, 0, 0, 0, '', '', '', '', '' }

-- What stands before a head for the key of its job ('': none).
local function mark_key(key)
  return key == '' and '' or KEY_MARK .. struct_pack('>I2', #key) .. key
end

-- Packed without the fields at its end that say nothing; those that are not there say nothing too. A key stands before
-- all that: heads that differ in nothing else are then alike, and need not be packed and unpacked for each job.
local function write_head(head)
  local key, last = head[KEY] or '', #EMPTY
  head[KEY] = ''
  while head[last] == nil or head[last] == EMPTY[last] do last = last - 1 end
  local kept = {}
  for i = 1, last do kept[i] = head[i] or EMPTY[i] end
  head[KEY] = key
  return mark_key(key) .. pack(kept)
end

-- A record without its state and stamp, up to the data.
local function middle(head_text, result)
  return struct_pack('>I3I4', #head_text, #result) .. head_text .. result
end

-- --- figures ------------------------------------------------------------------------

local deltas = {}

local function count(queue, name, from, to, number)
  local its = deltas[queue]
  if not its then its = {}; deltas[queue] = its end
  -- Under 7 all that were ever added are counted.
  local source = from and NUMBER[from] .. name or 7 .. name
  its[source] = (its[source] or 0) + (from and -number or number)
  if to then its[NUMBER[to] .. name] = (its[NUMBER[to] .. name] or 0) + number end
end

local woken = {}

-- Keep up how many jobs run of a queue that limits them, which keeps that figure and no other queue does.
local function count_slots(queue, its)
  local active = 0
  for field, number in pairs(its) do
    if byte(field, 1) == 51 then active = active + number end
  end
  if active ~= 0 and call('HEXISTS', P .. 'limits', queue .. ':active') == 1 then
    call('HINCRBY', P .. 'limits', queue .. ':active', active)
    if active < 0 then woken[queue] = true end
  end
end

-- Writes what was counted.
local function write_counts()
  for queue, its in pairs(deltas) do
    local key = P .. 'counts:' .. queue
    for field, number in pairs(its) do
      if number ~= 0 then call('HINCRBY', key, field, number) end
    end
    if limited then count_slots(queue, its) end
  end
  deltas = {}
end

-- Queues are listed in the order of their making.
local function know_queue(queue)
  if not call('ZSCORE', P .. 'queues', queue) then
    call('ZADD', P .. 'queues', call('ZCARD', P .. 'queues') + 1, queue)
  end
end

-- --- facts --------------------------------------------------------------------------

-- `about` is queue, kind and moment, and of facts about jobs the columns; `field` says what `body` is.
local function tell_text(about, size, field, body)
  local last = event + size - 1
  local id = format('%.0f-%d', last, size)
  if floor(event / TRIMMED_EACH) ~= floor((last + 1) / TRIMMED_EACH) then
    call('XADD', P .. 'events', 'MINID', '~', math.max(0, event - MOST_EVENTS), id, 'a', pack(about), field, body)
  else
    call('XADD', P .. 'events', id, 'a', pack(about), field, body)
  end
  event = last + 1
end

-- Facts about jobs by columns: `names` and `attempts` are one for all or a list, `extras` a list of JSON text,
-- `packed` the ids as one text, where somebody has it.
local function tell(queue, kind, ids, names, attempts, extras, packed)
  local size = #ids
  if size <= MOST_FACTS then
    if size > 0 then tell_text({ queue, kind, now, names, attempts, extras }, size, 'i', packed or pack(ids)) end
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
    tell_text({ queue, kind, now, its, tries, more }, #some, 'i', pack(some))
  end
end

-- --- the line of waiting jobs -------------------------------------------------------
-- Per name and priority there is a list of stamp and id, in order; jobs that arrive with a moment of the past, as
-- those do that became due, stand in a small sorted set beside it. A job that leaves the line by hand leaves its
-- element behind, which is known by its stamp.

local function line_of(head)
  return format('%d:', head[PRIORITY]) .. head[NAME]
end

-- --- the end ------------------------------------------------------------------------

local function finish()
  for _, ending in ipairs(endings) do ending() end
  write_counts()
  call('HSET', META, 'figures', struct_pack('>I7I7I7I1', stamp, now, event, turn))
  if call('EXISTS', IDLE) == 1 then
    for queue in pairs(woken) do
      if call('HDEL', IDLE, queue) == 1 then call('PUBLISH', P .. 'hints', queue) end
    end
    if event ~= first_event and call('HDEL', IDLE, '!') == 1 then call('PUBLISH', P .. 'hints', '!') end
  end
end
