-- keyed.lua · jobs with a key: how many of each stand in line, run, and wait behind; part of steps that move jobs
-- gives  LISTS, ring_list, apply_own, block, change_key, end_runs, forget_keys, hold, key_line, leave_key, leave_key_line, let_in
-- gives  look_at_keys, read_keys, ring_of, send_back, start_of_key
--
-- What is kept of a key: how many are open (in line), active, blocked (4 bytes each); where it is listed (1 byte; 1: by
-- the moment to look at it, 2: by the moment to forget it); and where there is any of it a msgpack array of its bucket, its
-- hold (see buckets.lua), and what was said of it, or false: text, weight, concurrency, interval and size of its bucket
-- (-1: as the queue says, 0: no limit).
-- Blocked jobs stand in a sorted set per key, as stamp and id by their priority; and all of a queue, whatever they are
-- blocked by, are in one by when they were added. Keys that a step has to do with are
-- read once; before its end, blocked jobs are let into the line as far as that may be, and what is kept is written.
-- The rules are told in docs/decisions/limits.md.

local OPEN_PER_WEIGHT, KEYS_AT_ONCE = 16, 100
local FIGURE = { W = 'open', B = 'blocked', A = 'active' }
LISTS = { 'key-times:', 'key-idle:' }
local rings = {}
ring_list = {}
with_buckets()

-- The keys of a queue: those that were read, in the order of their first change, and what left them before that.
function ring_of(queue)
  local ring = rings[queue]
  if ring then return ring end
  local kept = limited and call('HGET', LIMITS, queue)
  local rule = kept and unpack_text(kept) or {}
  ring = {
    queue = queue, jobs = P .. 'jobs:' .. queue, kept = P .. 'keys:' .. queue, its = {}, changed = {}, left = {}, unread = {},
    interval = rule[6] or 0, size = rule[7] or 0, concurrency = rule[8] or 0,
  }
  rings[queue], ring_list[#ring_list + 1] = ring, ring
  return ring
end

function apply_own(ring, its)
  local own = its.own
  if not own then
    its.weight, its.concurrency, its.interval, its.size = 1, ring.concurrency, ring.interval, ring.size
    return
  end
  its.weight = own[2]
  its.concurrency = own[3] < 0 and ring.concurrency or own[3]
  its.interval, its.size = own[4], own[5]
  if own[4] < 0 then its.interval, its.size = ring.interval, ring.size end
end

local function add_key(ring, key, kept)
  local open, active, blocked, listed = 0, 0, 0, 0
  if kept then open, active, blocked, listed = struct.unpack('>I4I4I4B', kept) end
  local its = {
    key = key, is_new = not kept, is_changed = false, open = open, active = active, blocked = blocked, listed = listed,
    empty = 0, hold = 0, own = false,
    weight = 1, concurrency = ring.concurrency, interval = ring.interval, size = ring.size,
  }
  if kept and #kept > 13 then
    its.empty, its.hold, its.own = unpack(unpack_text(sub(kept, 14)))
    apply_own(ring, its)
  end
  ring.its[key] = its
  local left = ring.left[key]
  if left then
    for from, number in pairs(left) do its[FIGURE[from]] = math.max(0, its[FIGURE[from]] - number) end
  end
  return its
end

function read_keys(ring, keys)
  local unknown, seen = {}, {}
  for _, key in ipairs(keys) do
    if not ring.its[key] and not seen[key] then unknown[#unknown + 1], seen[key] = key, true end
  end
  for first = 1, #unknown, CHUNK do
    local last = math.min(first + CHUNK - 1, #unknown)
    for i, kept in ipairs(call('HMGET', ring.kept, unpack(unknown, first, last))) do
      add_key(ring, unknown[first + i - 1], kept)
    end
  end
end

-- What is kept of a key, which is about to change.
function change_key(ring, key)
  local its = ring.its[key] or add_key(ring, key, call('HGET', ring.kept, key))
  if not its.is_changed then
    its.is_changed = true
    ring.changed[#ring.changed + 1] = its
  end
  return its
end

-- How many more of a key may stand in line, whatever the time.
local function free_places(its)
  local free = OPEN_PER_WEIGHT * its.weight
  if its.concurrency > 0 then free = math.min(free, its.concurrency - its.active) end
  return free - its.open
end

local function room_of(its)
  if held_until(its) then return 0 end
  local room = free_places(its)
  if its.interval > 0 then room = math.min(room, tokens_in(its.empty, its.interval, its.size) - its.open) end
  return room
end

function key_line(ring, key)
  return P .. 'key-line:' .. ring.queue .. ':' .. key
end

-- --- coming and going -----------------------------------------------------------------

-- Block a job, unless it may stand in line; gives the stamp for its record, or nil where it may.
function block(queue, id, head, arrival)
  local ring = ring_of(queue)
  local its = change_key(ring, head[KEY])
  if its.blocked == 0 and room_of(its) > 0 then
    its.open = its.open + 1
    return nil
  end
  local place = seven(arrival or take_stamps(1))
  call('ZADD', key_line(ring, its.key), -head[PRIORITY], place .. id)
  call('ZADD', P .. 'blocked:' .. queue, head[ADDED], id)
  its.blocked = its.blocked + 1
  return place
end

function leave_key_line(queue, id, head, place)
  call('ZREM', key_line(ring_of(queue), head[KEY]), place .. id)
end

-- A job of a key is no longer in a state.
function leave_key(queue, key, from)
  if not FIGURE[from] then return end
  local ring = ring_of(queue)
  if ring.its[key] then
    local its = change_key(ring, key)
    its[FIGURE[from]] = math.max(0, its[FIGURE[from]] - 1)
    return
  end
  local left = ring.left[key]
  if not left then
    left = {}
    ring.left[key], ring.unread[#ring.unread + 1] = left, key
  end
  left[from] = (left[from] or 0) + 1
end

-- Runs of jobs with these keys have ended.
function end_runs(queue, keys)
  local ring = ring_of(queue)
  read_keys(ring, keys)
  for _, key in ipairs(keys) do
    local its = change_key(ring, key)
    its.active = math.max(0, its.active - 1)
  end
end

-- Take a place among those that run for a job in line; whether there is one.
function start_of_key(its)
  if held_until(its) then return false end
  if its.concurrency > 0 and its.active >= its.concurrency then return false end
  if its.interval > 0 then
    if tokens_in(its.empty, its.interval, its.size) < 1 then return false end
    its.empty = without_tokens(its.empty, its.interval, its.size, 1)
  end
  its.open, its.active = math.max(0, its.open - 1), its.active + 1
  return true
end

-- Put a job from the line before all of its key and priority that are blocked: it was let in before them.
function send_back(ring, its, id, v, head)
  local line, score = key_line(ring, its.key), format('%d', -head[PRIORITY])
  local first = call('ZRANGEBYSCORE', line, score, score, 'LIMIT', 0, 1)[1]
  local place = first and seven(struct.unpack('>I7', sub(first, 1, 7)) - 1) or sub(v, 2, 8)
  call('ZADD', line, score, place .. id)
  call('ZADD', P .. 'blocked:' .. ring.queue, head[ADDED], id)
  call('HSET', ring.jobs, id, 'B' .. place .. sub(v, 9))
  its.open, its.blocked = math.max(0, its.open - 1), its.blocked + 1
  count(ring.queue, head[NAME], 'W', 'B', 1)
end

-- Hold a queue, or one key of it where `key` is not empty.
function hold(queue, key, duration)
  if key ~= '' then
    hold_for(change_key(ring_of(queue), key), duration)
    return
  end
  local its = read_limits(queue)
  hold_for(its, duration)
  keep_bucket(queue, its)
  call('HSET', META, 'limited', 1)
end

-- --- letting in -----------------------------------------------------------------------

-- The first blocked jobs of all changed keys that may stand in line, as stamp and id, each with its key.
local function next_blocked(ring)
  local members, owners = {}, {}
  for _, its in ipairs(ring.changed) do
    local number = math.min(its.blocked, room_of(its))
    if number > 0 then
      local popped = call('ZPOPMIN', key_line(ring, its.key), number)
      for i = 1, #popped, 2 do members[#members + 1], owners[#owners + 1] = popped[i], its end
      its.blocked = #popped < 2 * number and 0 or its.blocked - number
    end
  end
  return members, owners
end

-- What of its head matters for a job that comes to the line: name, attempt, and the line, which is one for all that have
-- the same.
local function line_in(lines, order, text)
  local head = unpack_text(text)
  local name = line_of(head)
  local its = lines[name]
  if not its then
    its = { priority = head[PRIORITY], line = name }
    lines[name], order[#order + 1] = its, its
  end
  return { head[NAME], head[ATTEMPT] or 0, its }
end

-- Let jobs stand at the ends of their lines, in their order; gives how many there were.
local function stand_in_line(ring, members, owners)
  local ids, names, attempts, fields, known, lines, order = {}, {}, {}, {}, {}, {}, {}
  for first = 1, #members, CHUNK do
    local some = {}
    for i = first, math.min(first + CHUNK - 1, #members) do some[#some + 1] = sub(members[i], 8) end
    for i, v in ipairs(call('HMGET', ring.jobs, unpack(some))) do
      -- Where it is another one, something else than a step of ours has been here.
      if v and sub(v, 1, 8) == 'B' .. sub(members[first + i - 1], 1, 7) then
        local a, b, c = byte(v, 9, 11)
        local _, from = key_in(v, 16)
        local text, place, at = sub(v, from, 15 + a * 65536 + b * 256 + c), seven(take_stamps(1)), #ids + 1
        local its = known[text]
        if not its then its = line_in(lines, order, text); known[text] = its end
        its[3][#its[3] + 1] = place .. some[i]
        fields[2 * at - 1], fields[2 * at] = some[i], 'W' .. place .. sub(v, 9)
        ids[at], names[at], attempts[at] = some[i], its[1], its[2]
        count(ring.queue, its[1], 'B', 'W', 1)
        owners[first + i - 1].open = owners[first + i - 1].open + 1
      end
    end
  end
  for first = 1, #fields, 2 * CHUNK do
    call('HSET', ring.jobs, unpack(fields, first, math.min(first + 2 * CHUNK - 1, #fields)))
    call('ZREM', P .. 'blocked:' .. ring.queue, unpack(ids, (first + 1) / 2, math.min((first - 1) / 2 + CHUNK, #ids)))
  end
  for _, its in ipairs(order) do
    for first = 1, #its, CHUNK do
      call('RPUSH', P .. 'line:' .. ring.queue .. ':' .. its.line, unpack(its, first, math.min(first + CHUNK - 1, #its)))
    end
    call('ZADD', P .. 'open:' .. ring.queue, its.priority, its.line)
  end
  tell(ring.queue, 'waiting', ids, names, attempts)
  if #ids > 0 then woken[ring.queue] = true end
  return #ids
end

-- Let blocked jobs of the keys that changed into the line, as far as they may; gives how many.
function let_in(ring)
  if #ring.unread > 0 then
    read_keys(ring, ring.unread)
    for _, key in ipairs(ring.unread) do change_key(ring, key) end
    ring.left, ring.unread = {}, {}
  end
  local number = 0
  repeat
    local members, owners = next_blocked(ring)
    local stand = #members > 0 and stand_in_line(ring, members, owners) or 0
    number = number + stand
  until stand == #members
  return number
end

-- --- keeping --------------------------------------------------------------------------

-- Where a key has to be listed, and by which moment; nil when there is nothing to keep of it.
local function listing(its)
  if its.blocked > 0 then
    if free_places(its) <= 0 then return 0 end
    local held = held_until(its)
    if held then return 1, held end
    if its.interval > 0 and its.open < its.size then return 1, tokens_at(its.empty, its.interval, its.open + 1) end
    return 0
  end
  if its.open + its.active > 0 or its.own then return 0 end
  local over = held_until(its) or 0
  if its.interval > 0 then over = math.max(over, tokens_at(its.empty, its.interval, its.size)) end
  if over > steady then return 2, over end
end

local function list_key(ring, its)
  if its.interval == 0 then its.empty = 0 end
  local list, moment = listing(its)
  if its.listed > 0 and its.listed ~= list then call('ZREM', P .. LISTS[its.listed] .. ring.queue, its.key) end
  if moment then call('ZADD', P .. LISTS[list] .. ring.queue, format('%.0f', moment), its.key) end
  its.listed = list or 0
  return list
end

local function packed_key(its)
  local figures = struct_pack('>I4I4I4B', its.open, its.active, its.blocked, its.listed)
  if not its.own and its.empty == 0 and its.hold <= steady then return figures end
  return figures .. pack({ its.empty, its.hold, its.own })
end

local function keep_keys(ring)
  local fields, gone, new = {}, {}, {}
  for _, its in ipairs(ring.changed) do
    if list_key(ring, its) then
      fields[#fields + 1], fields[#fields + 2] = its.key, packed_key(its)
      if its.is_new then new[#new + 1], new[#new + 2] = 0, its.key end
      its.is_new = false
    elseif not its.is_new then
      gone[#gone + 1] = its.key
      its.is_new = true
    end
    its.is_changed = false
  end
  ring.changed = {}
  local names = P .. 'key-names:' .. ring.queue
  for first = 1, #fields, 2 * CHUNK do
    call('HSET', ring.kept, unpack(fields, first, math.min(first + 2 * CHUNK - 1, #fields)))
  end
  for first = 1, #new, 2 * CHUNK do
    call('ZADD', names, unpack(new, first, math.min(first + 2 * CHUNK - 1, #new)))
  end
  for first = 1, #gone, CHUNK do
    local last = math.min(first + CHUNK - 1, #gone)
    call('HDEL', ring.kept, unpack(gone, first, last))
    call('ZREM', names, unpack(gone, first, last))
  end
end

local function end_keys()
  for _, ring in ipairs(ring_list) do
    let_in(ring)
    if not limited then
      limited = true
      call('HSET', META, 'limited', 1)
    end
    keep_keys(ring)
  end
end
endings[#endings + 1] = end_keys

-- --- looking --------------------------------------------------------------------------

-- Forget keys of which nothing is left but a bucket that is full by now, or a hold that is over.
function forget_keys(queue, most)
  local idle = call('ZRANGEBYSCORE', P .. LISTS[2] .. queue, '-inf', steady, 'LIMIT', 0, most)
  if #idle == 0 then return end
  local ring = ring_of(queue)
  read_keys(ring, idle)
  for _, key in ipairs(idle) do change_key(ring, key).listed = 2 end
end

-- Look at keys whose moment has come, and on at all keys where limits were changed; whether there may be more of them.
function look_at_keys(queue, walk)
  local due = call('ZRANGEBYSCORE', P .. LISTS[1] .. queue, '-inf', steady, 'LIMIT', 0, KEYS_AT_ONCE)
  if #due > 0 then
    local ring = ring_of(queue)
    read_keys(ring, due)
    for _, key in ipairs(due) do change_key(ring, key).listed = 1 end
  end
  if not walk then return #due == KEYS_AT_ONCE end
  local ring = ring_of(queue)
  local cursor, kept = unpack(call('HSCAN', ring.kept, walk, 'COUNT', KEYS_AT_ONCE))
  for i = 1, #kept, 2 do
    local its = ring.its[kept[i]] or add_key(ring, kept[i], kept[i + 1])
    if its.blocked > 0 or its.listed > 0 then change_key(ring, its.key) end
  end
  if cursor == '0' then
    call('HDEL', LIMITS, queue .. ':walk')
  else
    call('HSET', LIMITS, queue .. ':walk', cursor)
  end
  return #due == KEYS_AT_ONCE or cursor ~= '0'
end
