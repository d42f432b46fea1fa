-- dedup.lua · which job has a dedup key, and what becomes of a second one; part of every step that adds or ends jobs
-- gives  add_group, add_later, add_once, end_window, hold_key, holder_of, is_unended, sweep_keys
--
-- Per queue a hash, of keys, each with its kind (0 until its job has started, 1 until it has ended, 2 for a window; one
-- byte), when the window is over (7 bytes) and the id of the job that had it last; a sorted set of keys by when clear
-- looks at them; and a hash of what is to be added when a job has ended, by that job's id. Whether a key counts is seen
-- from its job.
--
-- A rule is key, kind, window in µs, and what becomes of a second job: existing, reject, replace, keep-last.

local DEDUP_LOOK = 3600000000

-- Kind, end of the window, and id of the job that had a key last.
local function read_holder(kept)
  local kind, over = struct.unpack('>I1I7', kept)
  return kind, over, sub(kept, 9)
end

local function is_unbegun(state, head)
  return (state == 'W' or state == 'D' or state == 'B') and head[STARTED] == 0
end

function is_unended(state)
  return state == 'W' or state == 'D' or state == 'B' or state == 'A'
end

-- The dedup key of a job, if it has one.
local function key_of(head)
  if head[OPTIONS] == '' or not string.find(head[OPTIONS], '"dedup":', 1, true) then return nil end
  local is_read, options = pcall(cjson.decode, head[OPTIONS])
  return is_read and options.dedup and options.dedup.key
end

-- The job whose key it is, if the key counts: id, record (none when it is gone), state, head, data. A later job that was
-- given the same id knows nothing of the key.
function holder_of(queue, key)
  local kept = call('HGET', P .. 'dedup:' .. queue, key)
  if not kept then return nil end
  local kind, over, id = read_holder(kept)
  local v = call('HGET', P .. 'jobs:' .. queue, id)
  local state, place, head, data
  if v then
    local text, _
    state, place, text, _, data = open_record(v)
    head = read_head(text)
  end
  if not v or key_of(head) ~= key then
    if kind == 2 and now < over then return { id = id } end
    return nil
  end
  local counts
  if kind == 2 then counts = now < over elseif kind == 1 then counts = is_unended(state) else counts = is_unbegun(state, head) end
  return counts and { id = id, v = v, state = state, place = place, head = head, data = data } or nil
end

-- Write down that a job, added at that moment, has its key.
function hold_key(queue, rule, id, added)
  local keys = P .. 'dedup:' .. queue
  local before, over = call('HGET', keys, rule[1]), rule[2] == 2 and added + rule[3] or 0
  if before then
    local _, _, old = read_holder(before)
    if old ~= id then call('HDEL', P .. 'later:' .. queue, old) end
  end
  call('HSET', keys, rule[1], struct_pack('>I1I7', rule[2], over) .. id)
  call('ZADD', P .. 'dedup-look:' .. queue, math.max(now + DEDUP_LOOK, over), rule[1])
end

function add_group(group, number, known, held, joins)
  if group[10] then return add_tied(group, number, known, held, joins) end
  return add_alike(group, number, known, joins)
end

-- Take a job that nobody has begun with out of the place where it is; its record is to be changed then.
local function leave_place(queue, id, state, place, head)
  if is_tied(head) then left(queue, id, head, state) end
  if state == 'W' then
    call('ZREM', P .. 'early:' .. queue .. ':' .. line_of(head), place .. id)
  elseif state == 'D' then
    call('ZREM', P .. 'delayed:' .. queue, id)
  else
    call('ZREM', P .. 'blocked:' .. queue, id)
    if head[KEY] ~= '' then leave_key_line(queue, id, head, place) end
  end
end

-- The same, and forget it.
local function take_out(queue, id, its)
  local state, head = its.state, its.head
  leave_place(queue, id, state, its.place, head)
  call('HDEL', P .. 'jobs:' .. queue, id)
  call('DEL', P .. 'log:' .. queue .. ':' .. id)
  count(queue, head[NAME], state, nil, 1)
  if state == 'W' then trim_line(queue, line_of(head)) end
end

local function keeps_place(group, its)
  local state, head = its.state, its.head
  return (state == 'W' or state == 'B') and group[4] < 0 and group[2] == head[NAME] and group[3] == head[PRIORITY]
    and (group[10] and group[10][1][1] or '') == head[KEY]
end

-- Put a new job in the place of one that nobody has begun with, under its id; gives the record.
local function replace(group, rule, its)
  local queue, id, head = group[1], its.id, its.head
  tell_one(queue, 'updated', id, head)
  if keeps_place(group, its) then
    head[ADDED], head[ATTEMPTS], head[MAX_STALLS], head[OPTIONS] = now, group[5], group[6], group[7]
    call('HSET', P .. 'jobs:' .. queue, id, seal(its.state, its.place, head, '', group[9][1]))
    expire_later(queue, group[7], { id }, now)
  else
    take_out(queue, id, its)
    group[8] = { id }
    add_group(group, 0, {}, {})
  end
  hold_key(queue, rule, id, now)
  return call('HGET', P .. 'jobs:' .. queue, id)
end

-- Add the one job of a group if no other has its key; gives id and record of what is there when it did not, the record
-- empty when that is gone. `held` is given its number when it is blocked.
function add_once(group, rule, number, held)
  local queue, id = group[1], group[8][1]
  local v = call('HGET', P .. 'jobs:' .. queue, id)
  if v then return id, v end
  local its = holder_of(queue, rule[1])
  if not its then
    add_group(group, number, {}, held)
    hold_key(queue, rule, id, now)
    return nil
  end
  local may_replace = rule[4] == 'replace' or rule[4] == 'keep-last'
  if not its.v then return its.id, '' end
  if may_replace and is_unbegun(its.state, its.head) then return its.id, replace(group, rule, its) end
  if rule[4] == 'keep-last' and is_unended(its.state) then
    call('HSET', P .. 'later:' .. queue, its.id, pack({ group, rule }))
  end
  return its.id, its.v
end

-- Add what was remembered until one of these jobs has ended; those that have not are passed over.
function add_later(queue, ids)
  local kept = P .. 'later:' .. queue
  if call('EXISTS', kept) == 0 then return end
  for _, id in ipairs(ids) do
    local later = call('HGET', kept, id)
    local v = later and call('HGET', P .. 'jobs:' .. queue, id)
    if later and not (v and is_unended(sub(v, 1, 1))) then
      local group, rule = unpack(unpack_text(later))
      call('HDEL', kept, id)
      add_once(group, rule, 0, {})
    end
  end
end

-- Let the key go that a job has for a window: it is about to be cancelled or removed.
function end_window(queue, id, head)
  local key = key_of(head)
  local kept = key and call('HGET', P .. 'dedup:' .. queue, key)
  if not kept then return end
  local kind, _, holder = read_holder(kept)
  if holder == id and kind == 2 then
    call('HDEL', P .. 'dedup:' .. queue, key)
    call('ZREM', P .. 'dedup-look:' .. queue, key)
  end
end

-- Forget keys that count no more and whose jobs are gone.
function sweep_keys(queue, limit)
  for _, key in ipairs(call('ZRANGEBYSCORE', P .. 'dedup-look:' .. queue, '-inf', now, 'LIMIT', 0, limit)) do
    local kept = call('HGET', P .. 'dedup:' .. queue, key)
    local _, over, id = read_holder(kept or '\0\0\0\0\0\0\0\0')
    if kept and (now < over or call('HEXISTS', P .. 'jobs:' .. queue, id) == 1) then
      call('ZADD', P .. 'dedup-look:' .. queue, now + DEDUP_LOOK, key)
    else
      call('HDEL', P .. 'dedup:' .. queue, key)
      call('ZREM', P .. 'dedup-look:' .. queue, key)
    end
  end
end
