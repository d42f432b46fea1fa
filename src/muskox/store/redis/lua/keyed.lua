-- keyed.lua · jobs with a key: how many of each stand in line, run, and wait behind; part of steps that move jobs
-- gives  LISTS, block, end_runs, forget_keys, hold, leave_key, leave_key_line, let_in, look_at_keys, send_back, start_of_key
--
-- What is kept of a key: how many are open (in line), active, blocked (4 bytes each); where it is listed (1 byte; 1: by
-- the moment to look at it, 2: by the moment to forget it); and where there is any of it a msgpack array of its bucket, its
-- hold (see buckets.lua), and what was said of it, or false: text, weight, concurrency, interval and size of its bucket
-- (-1: as the queue says, 0: no limit).
-- Blocked jobs stand in a sorted set per key, as stamp and id by their priority; and all of a queue, whatever they are
-- blocked by, are in one by when they were added. Keys that a step has to do with are read once (see rings.lua);
-- before its end, blocked jobs are let into the line as far as that may be, and what is kept is written.
-- The rules are told in docs/decisions/limits.md.

local KEYS_AT_ONCE = 100
LISTS = { 'key-times:', 'key-idle:' }
with_buckets()
with_rings()

-- --- coming and going -----------------------------------------------------------------

-- Block a job, unless it may stand in line; gives the stamp for its record, or nil where it may.
function block(queue, id, head, arrival)
  local ring, key = ring_of(queue), head[KEY]
  if not ring.figures[key] and not ring.its[key] then read_keys(ring, { key }) end
  local figures = unmoved(ring, key)
  if figures then
    move_alike(ring, key, figures, figures.may_enter and 'enter' or 'block')
    if figures.may_enter then return nil end
  else
    local its = change_key(ring, key)
    if its.blocked == 0 and room_of(its) > 0 then
      its.open = its.open + 1
      return nil
    end
    its.blocked = its.blocked + 1
  end
  local place = seven(arrival or take_stamps(1))
  call('ZADD', key_line(ring, key), -head[PRIORITY], place .. id)
  call('ZADD', P .. 'blocked:' .. queue, head[ADDED], id)
  return place
end

function leave_key_line(queue, id, head, place)
  call('ZREM', key_line(ring_of(queue), head[KEY]), place .. id)
end

-- A job of a key is no longer in a state.
function leave_key(queue, key, from)
  if not FIGURE[from] then return end
  local ring = ring_of(queue)
  if ring.its[key] or ring.figures[key] then
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
    local figures = unmoved(ring, key)
    if figures then
      move_alike(ring, key, figures, 'finish')
    else
      local its = change_key(ring, key)
      its.active = math.max(0, its.active - 1)
    end
  end
end

-- Take a place among those that run for a job in line; whether there is one.
function start_of_key(ring, key)
  local figures = unmoved(ring, key)
  if figures then
    if figures.may_start then move_alike(ring, key, figures, 'start') end
    return figures.may_start
  end
  local its = change_key(ring, key)
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
function send_back(ring, key, id, v, head)
  local its = change_key(ring, key)
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

-- Take so many of a key out of its line, to `members` with its name in `owners`; gives how many there were.
local function take_blocked(ring, key, number, members, owners)
  local popped, at = call('ZPOPMIN', key_line(ring, key), number), #members
  for i = 1, #popped, 2 do
    at = at + 1
    members[at], owners[at] = popped[i], key
  end
  return #popped / 2
end

-- The first blocked jobs of all changed keys that may stand in line, as stamp and id, each with its key. They are counted
-- as open.
local function next_blocked(ring)
  local members, owners = {}, {}
  local waiting = ring.waiting
  ring.waiting = {}
  for _, key in ipairs(waiting) do
    local figures = ring.figures[key]
    local room = figures and figures.room or 0
    if room > 0 then
      local found = take_blocked(ring, key, room, members, owners)
      if found == room then
        move_alike(ring, key, figures, 'let_in')
      else
        local its = change_key(ring, key)
        its.open, its.blocked = its.open + found, 0
      end
    end
  end
  for _, its in ipairs(ring.changed) do
    local number = math.min(its.blocked, room_of(its))
    if number > 0 then
      local found = take_blocked(ring, its.key, number, members, owners)
      its.open, its.blocked = its.open + found, found < number and 0 or its.blocked - number
    end
  end
  return members, owners
end

-- Where jobs with a head like this stand in line, as a list of what comes there, and what is told of them.
local function line_in(lines, order, text)
  local head = unpack_text(text)
  local name = line_of(head)
  local its = lines[name]
  if not its then
    its = { priority = head[PRIORITY], line = name }
    lines[name], order[#order + 1] = its, its
  end
  return { its, head[NAME], head[ATTEMPT] or 0, 0 }
end

-- Put jobs in line, in their order, where their records say that they are blocked; gives ids, names, attempts.
local function open_records(ring, members, owners, order)
  local ids, names, attempts, known, lines, jobs, size = {}, {}, {}, {}, {}, ring.jobs, 0
  for first = 1, #members, CHUNK do
    local some, fields = {}, {}
    for i = first, math.min(first + CHUNK - 1, #members) do some[#some + 1] = sub(members[i], 8) end
    for i, v in ipairs(call('HMGET', jobs, unpack(some))) do
      -- Where it is another one, something else than a step of ours has been here.
      if v and byte(v, 1) == 66 and sub(v, 2, 8) == sub(members[first + i - 1], 1, 7) then
        local a, b, c = byte(v, 9, 11)
        local place, from, _ = seven(take_stamps(1)), 16, nil
        if byte(v, 16) == 193 then _, from = key_in(v, 16) end
        local text = sub(v, from, 15 + a * 65536 + b * 256 + c)
        local its = known[text]
        if not its then its = line_in(lines, order, text); known[text] = its end
        local line, at = its[1], #fields
        line[#line + 1] = place .. some[i]
        fields[at + 1], fields[at + 2] = some[i], 'W' .. place .. sub(v, 9)
        size, its[4] = size + 1, its[4] + 1
        ids[size], names[size], attempts[size] = some[i], its[2], its[3]
      else
        local owner = change_key(ring, owners[first + i - 1])
        owner.open = math.max(0, owner.open - 1)
      end
    end
    if #fields > 0 then
      call('HSET', jobs, unpack(fields))
      call('ZREM', P .. 'blocked:' .. ring.queue, unpack(ids, size - #fields / 2 + 1, size))
    end
  end
  for _, its in pairs(known) do count(ring.queue, its[2], 'B', 'W', its[4]) end
  return ids, names, attempts
end

-- One for all where they are the same.
local function one_for_all(list)
  for i = 2, #list do
    if list[i] ~= list[1] then return list end
  end
  return list[1]
end

-- Let jobs stand at the ends of their lines, in their order; gives how many there were.
local function stand_in_line(ring, members, owners)
  local order = {}
  local ids, names, attempts = open_records(ring, members, owners, order)
  for _, its in ipairs(order) do
    for first = 1, #its, CHUNK do
      call('RPUSH', P .. 'line:' .. ring.queue .. ':' .. its.line, unpack(its, first, math.min(first + CHUNK - 1, #its)))
    end
    call('ZADD', P .. 'open:' .. ring.queue, its.priority, its.line)
  end
  if #ids > 0 then
    tell(ring.queue, 'waiting', ids, one_for_all(names), one_for_all(attempts))
    woken[ring.queue] = true
  end
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

-- What is to be written of changed keys: fields of their records, those that go, and those that are new.
local function gather_keys(ring)
  local fields, gone, new, at = {}, {}, {}, 0
  for _, key in ipairs(ring.moved) do
    local figures, before = ring.figures[key], ring.before[key]
    if figures and figures ~= before then
      if not figures.is_nothing then
        fields[at + 1], fields[at + 2], at = key, figures.text, at + 2
        if ring.fresh[key] then new[#new + 1], new[#new + 2], ring.fresh[key] = 0, key, nil end
      elseif not ring.fresh[key] then
        gone[#gone + 1], ring.fresh[key] = key, true
      end
    end
  end
  for _, its in ipairs(ring.changed) do
    if list_key(ring, its) then
      fields[at + 1], fields[at + 2], at = its.key, packed_key(its), at + 2
      if its.is_new then new[#new + 1], new[#new + 2] = 0, its.key end
      its.is_new = false
    elseif not its.is_new then
      gone[#gone + 1] = its.key
      its.is_new = true
    end
    its.is_changed = false
  end
  ring.changed, ring.moved, ring.before = {}, {}, {}
  return fields, gone, new
end

local function keep_keys(ring)
  local fields, gone, new = gather_keys(ring)
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
    local key = kept[i]
    local its = ring.its[key] or ring.figures[key] or note_key(ring, key, kept[i + 1])
    if its.blocked > 0 or its.listed > 0 then change_key(ring, key) end
  end
  if cursor == '0' then
    call('HDEL', LIMITS, queue .. ':walk')
  else
    call('HSET', LIMITS, queue .. ':walk', cursor)
  end
  return #due == KEYS_AT_ONCE or cursor ~= '0'
end
