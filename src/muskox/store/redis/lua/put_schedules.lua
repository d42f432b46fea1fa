-- put_schedules.lua · put, replace or delete schedules, each where its version is the one that was seen
-- needs  scheduled
-- ASKED  whom to wake, then per change: name, version (0: there is none), fields of the schedule or false to delete it
-- RETURNS  per change 1 if it was made, now or before, else 0

begin()
local bell, changes = ASKED[1], ASKED[2]
local SAID = { S_NEXT, S_LAST, S_LAST_JOB, S_PAUSED, S_GENERATION, S_TEXT }
local made = {}

local function is_there(its, new)
  for _, field in ipairs(SAID) do
    if its[field] ~= new[field] then return false end
  end
  return true
end

local function put(name, its, new)
  new[S_VERSION] = take_stamps(1)
  new[S_ADDED], new[S_CHANGED] = its and its[S_ADDED] or now, now
  keep_schedule(name, new)
  call('ZADD', P .. 'schedule-names', 0, name)
end

local function delete(name)
  take_stamps(1)
  call('HDEL', SCHEDULES, name)
  call('ZREM', P .. 'due', name)
  call('ZREM', P .. 'schedule-names', name)
  call('DEL', P .. 'ledger:' .. name)
end

for i, change in ipairs(changes) do
  local name, version, new = change[1], change[2], change[3]
  local its = read_schedule(name)
  if not its and not new then
    made[i] = 1
  elseif (its and its[S_VERSION] or 0) ~= version then
    made[i] = its and new and is_there(its, new) and 1 or 0
  else
    if new then put(name, its, new) else delete(name) end
    woken[bell] = true
    made[i] = 1
  end
end

finish()
return made
