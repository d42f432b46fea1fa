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
