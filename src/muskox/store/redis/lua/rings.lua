-- rings.lua · the keys of queues as a step has them: read once, changed, and written before its end; part of steps with keyed.lua
-- gives  FIGURE, ring_list, apply_own, change_key, free_places, key_line, key_of, move_alike, note_key, read_keys, ring_of
-- gives  room_of, unmoved
--
-- Most keys have no limits of their own and no hold, and where a queue has no rate for its keys, no bucket. What may become
-- of such a key is a matter of its figures alone, and many have the same: in a step they are one thing,
-- `figures`, and each move to other figures is worked out once and not per key. A table for each key had taken as
-- long as all that a claim does with a job.

local OPEN_PER_WEIGHT = 16
local rings = {}
FIGURE = { W = 'open', B = 'blocked', A = 'active' }
ring_list = {}

-- The keys of a queue: those that were read, in the order of their first change, and what left them before that. Of
-- those with figures alone: what they are, what the moved ones were, in the order of their first move, those of which more
-- may be let in, and which are new.
function ring_of(queue)
  local ring = rings[queue]
  if ring then return ring end
  local kept = limited and call('HGET', LIMITS, queue)
  local rule = kept and unpack_text(kept) or {}
  ring = {
    queue = queue, jobs = P .. 'jobs:' .. queue, kept = P .. 'keys:' .. queue, its = {}, changed = {}, left = {}, unread = {},
    alike = {}, figures = {}, before = {}, moved = {}, waiting = {}, fresh = {},
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

-- --- figures alone ----------------------------------------------------------------------

local NO_FIGURES = struct_pack('>I4I4I4B', 0, 0, 0, 0)

-- What a move does to the figures of a key: open, active, blocked.
local MOVES = {
  enter = { 1, 0, 0 }, block = { 0, 0, 1 }, start = { -1, 1, 0 }, finish = { 0, -1, 0 },
}

-- What is kept of a key where that is figures alone; never changed.
local function make_alike(ring, open, active, blocked)
  local text = struct_pack('>I4I4I4B', open, active, blocked, 0)
  local its = ring.alike[text]
  if its then return its end
  local free = OPEN_PER_WEIGHT
  if ring.concurrency > 0 then free = math.min(free, ring.concurrency - active) end
  its = {
    open = open, active = active, blocked = blocked, listed = 0, text = text, is_nothing = text == NO_FIGURES,
    may_enter = blocked == 0 and free > open, may_start = ring.concurrency == 0 or active < ring.concurrency,
    -- How many blocked ones may be let in.
    room = math.max(0, math.min(blocked, free - open)),
  }
  ring.alike[text] = its
  return its
end

-- The same by what is kept, `false` for nothing; nil where that is more.
local function alike_of(ring, kept)
  kept = kept or NO_FIGURES
  local its = ring.alike[kept]
  if its then return its end
  if ring.interval > 0 or #kept ~= #NO_FIGURES or byte(kept, #kept) ~= 0 then return nil end
  return make_alike(ring, struct.unpack('>I4I4I4', kept))
end

-- Move a key on from `its`; `let_in` puts as many blocked ones in line as there is room for.
function move_alike(ring, key, its, move)
  local to = its[move]
  if not to then
    local by = MOVES[move] or { its.room, 0, -its.room }
    to = make_alike(ring, math.max(0, its.open + by[1]), math.max(0, its.active + by[2]), its.blocked + by[3])
    its[move] = to
  end
  if not ring.before[key] then ring.before[key], ring.moved[#ring.moved + 1] = its, key end
  ring.figures[key] = to
  if to.room > 0 then ring.waiting[#ring.waiting + 1] = key end
end

-- The figures of a key if they are all of it and this step has not moved them yet. Of one that is moved again and again
-- each move would make others, and it gets a table.
function unmoved(ring, key)
  return not ring.before[key] and ring.figures[key]
end

-- --- reading and changing ---------------------------------------------------------------

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

-- Take note of what is kept of a key that was not read yet.
function note_key(ring, key, kept)
  local figures = not ring.left[key] and alike_of(ring, kept)
  if not figures then return add_key(ring, key, kept) end
  ring.figures[key], ring.fresh[key] = figures, not kept or nil
  return figures
end

function read_keys(ring, keys)
  local unknown, seen = {}, {}
  for _, key in ipairs(keys) do
    if not ring.figures[key] and not ring.its[key] and not seen[key] then unknown[#unknown + 1], seen[key] = key, true end
  end
  for first = 1, #unknown, CHUNK do
    local last = math.min(first + CHUNK - 1, #unknown)
    for i, kept in ipairs(call('HMGET', ring.kept, unpack(unknown, first, last))) do
      note_key(ring, unknown[first + i - 1], kept)
    end
  end
end

-- All of a key, as a table of its own.
function key_of(ring, key)
  if ring.its[key] then return ring.its[key] end
  local figures = ring.figures[key]
  if not figures then return add_key(ring, key, call('HGET', ring.kept, key)) end
  ring.figures[key] = nil
  local its = add_key(ring, key, figures.text)
  its.is_new = ring.fresh[key] or false
  return its
end

-- What is kept of a key, which is about to change.
function change_key(ring, key)
  local its = key_of(ring, key)
  if not its.is_changed then
    its.is_changed = true
    ring.changed[#ring.changed + 1] = its
  end
  return its
end

-- How many more of a key may stand in line, whatever the time.
function free_places(its)
  local free = OPEN_PER_WEIGHT * its.weight
  if its.concurrency > 0 then free = math.min(free, its.concurrency - its.active) end
  return free - its.open
end

function room_of(its)
  if held_until(its) then return 0 end
  local room = free_places(its)
  if its.interval > 0 then room = math.min(room, tokens_in(its.empty, its.interval, its.size) - its.open) end
  return room
end

function key_line(ring, key)
  return P .. 'key-line:' .. ring.queue .. ':' .. key
end
