-- scheduled.lua · how schedules are kept; part of every step that writes one
--
-- A schedule is a msgpack array of the fields below. Moments are text, "" is none: Lua's numbers cannot tell the
-- microseconds of the year 9999 apart. The last field is what the schedule says, as JSON.

local S_VERSION, S_NEXT, S_LAST, S_LAST_JOB, S_PAUSED, S_GENERATION, S_ADDED, S_CHANGED = 1, 2, 3, 4, 5, 6, 7, 8
local S_QUEUE, S_OVERLAP, S_TEXT = 9, 10, 11
local SCHEDULES = P .. 'schedules'

local function read_schedule(name)
  local v = call('HGET', SCHEDULES, name)
  return v and unpack_text(v)
end

-- Keep a schedule, and find it by its next moment while it has one and is not paused.
local function keep_schedule(name, its)
  call('HSET', SCHEDULES, name, pack(its))
  if its[S_PAUSED] == 0 and its[S_NEXT] ~= '' then
    call('ZADD', P .. 'due', its[S_NEXT], name)
  else
    call('ZREM', P .. 'due', name)
  end
end

-- Schedules by their names, where they are there.
local function read_schedules(names)
  local found = {}
  for first = 1, #names, CHUNK do
    local last = math.min(first + CHUNK - 1, #names)
    for i, v in ipairs(call('HMGET', SCHEDULES, unpack(names, first, last))) do
      if v then found[names[first + i - 1]] = unpack_text(v) end
    end
  end
  return found
end

-- Keep many at once: name and schedule in turn.
local function keep_schedules(pairs_)
  for first = 1, #pairs_, 2 * CHUNK do
    local fields, due, over = {}, {}, {}
    for i = first, math.min(first + 2 * CHUNK - 1, #pairs_), 2 do
      local name, its = pairs_[i], pairs_[i + 1]
      fields[#fields + 1] = name
      fields[#fields + 1] = pack(its)
      if its[S_PAUSED] == 0 and its[S_NEXT] ~= '' then
        due[#due + 1] = its[S_NEXT]
        due[#due + 1] = name
      else
        over[#over + 1] = name
      end
    end
    call('HSET', SCHEDULES, unpack(fields))
    if #due > 0 then call('ZADD', P .. 'due', unpack(due)) end
    if #over > 0 then call('ZREM', P .. 'due', unpack(over)) end
  end
end
