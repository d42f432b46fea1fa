-- update.lua · replace the data of a job whose state allows it
-- needs  records
-- ASKED  queue, id, data, states that allow it
-- RETURNS  the record as it is now, or nothing when there is no such job

local queue, id, new_data, states = unpack(ASKED)
local jobs = P .. 'jobs:' .. queue

local v = call('HGET', jobs, id)
if v and string.find(states, sub(v, 1, 1), 1, true) then
  begin()
  local state, place, text, result = open_record(v)
  local head = read_head(text)
  v = seal(state, place, head, result, new_data)
  call('HSET', jobs, id, v)
  tell_one(queue, 'updated', id, head)
  finish()
end
return v
