-- alone.lua · what ties.lua does for jobs that nobody waits for; part of steps that have no others

local FACT = { W = 'waiting', D = 'delayed' }
-- Nobody asks for any of it.
local left, ended, hold

local function is_tied()
  return false
end

local function gone() end

-- Let a job wait at the end of its line; gives the state and the stamp for its record.
local function arrive(queue, id, head)
  local place, line = seven(take_stamps(1)), line_of(head)
  call('RPUSH', P .. 'line:' .. queue .. ':' .. line, place .. id)
  call('ZADD', P .. 'open:' .. queue, head[PRIORITY], line)
  woken[queue] = true
  return 'W', place
end
