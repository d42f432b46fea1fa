-- moving.lua · moving jobs by hand, out of the place where each is; part of the steps that do

local left_lines = {}

-- Take a job out of the place where its state keeps it.
local function leave(queue, id, v, head)
  local state, place = sub(v, 1, 1), sub(v, 2, 8)
  if state == 'B' and place == BEHIND then return leave_behind(queue, id, head) end
  if is_tied(head) then left(queue, id, head, state) end
  if state == 'W' then
    local line = line_of(head)
    call('ZREM', P .. 'early:' .. queue .. ':' .. line, place .. id)
    left_lines[line] = true
  elseif state == 'D' then
    call('ZREM', P .. 'delayed:' .. queue, id)
  elseif state == 'B' then
    call('ZREM', P .. 'blocked:' .. queue, id)
    leave_key_line(queue, id, head, place)
  elseif state == 'A' then
    call('ZREM', P .. 'leases:' .. queue, place .. id)
    leave_claim(queue, seven(head[LAST]), 1)
  else
    local ended = ENDED_KEY[state] .. queue
    if call('ZREM', P .. ended, id) == 0 then
      call('ZREM', P .. 'own-' .. ended, id)
      call('ZREM', P .. 'until:' .. queue, id)
    end
  end
end

-- Move jobs of a queue, each given with its record, by `move`, which is given queue, id, head and data and gives the new
-- record, or nil where it deleted the job; tell of them as `kind`, or as blocked. `after` is called with the queue and
-- the ids.
local function move_jobs(queue, found, kind, move, after)
  local told, over = {}, {}
  for _, pair in ipairs(found) do
    local id, v = pair[1], pair[2]
    local state, _, text, _, data = open_record(v)
    local head = read_head(text)
    leave(queue, id, v, head)
    local moved = move(queue, id, head, data)
    local target = moved and sub(moved, 1, 1) or nil
    count(queue, head[NAME], state, target, 1)
    if moved then call('HSET', P .. 'jobs:' .. queue, id, moved) end
    if is_tied(head) and not ENDED_KEY[state] and (not target or ENDED_KEY[target]) then
      over[#over + 1] = { id, head, target }
    end
    local fact = target == 'B' and 'blocked' or kind
    local its = told[fact]
    if not its then its = { ids = {}, names = {}, attempts = {} }; told[fact] = its end
    local at = #its.ids + 1
    its.ids[at], its.names[at], its.attempts[at] = id, head[NAME], head[ATTEMPT]
  end
  for line in pairs(left_lines) do trim_line(queue, line) end
  left_lines = {}
  for _, fact in ipairs({ kind, 'blocked' }) do
    local its = told[fact]
    if its then tell(queue, fact, its.ids, its.names, its.attempts) end
  end
  for _, its in ipairs(over) do ended(queue, its[1], its[2], its[3], '') end
  if after and told[kind] then after(queue, told[kind].ids) end
end
