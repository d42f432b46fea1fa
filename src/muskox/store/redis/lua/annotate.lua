-- annotate.lua · write what runs tell of their jobs: progress, data, steps, lines of their logs
-- needs  records
-- ASKED  per note: queue, id, fence, progress or "", data or "", steps or "", lines
--        the last two: most lines of a log, and what is said in the place of all further ones
-- RETURNS  the numbers of those whose leases were lost, counted from 1
-- May run without memory to spare: a run's settlement waits until its notes are written.

begin()
local lost = {}
local notes, most, rest = ASKED[1], ASKED[2], ASKED[3]

local function add_lines(queue, id, lines)
  local log = P .. 'log:' .. queue .. ':' .. id
  local last = call('LLEN', log)
  for _, line in ipairs(lines) do
    if last > most then return end
    last = call('RPUSH', log, seven(now) .. (last == most and rest or line))
  end
end

for number, note in ipairs(notes) do
  local queue, id, fence, progress, new_data, steps, lines = unpack(note)
  local v = call('HGET', P .. 'jobs:' .. queue, id)
  if v and sub(v, 1, 8) == 'A' .. seven(fence) then
    local state, place, text, result, data = open_record(v)
    local head = read_head(text)
    if progress ~= '' or new_data ~= '' or steps ~= '' then
      if progress ~= '' then head[PROGRESS] = progress end
      if new_data ~= '' then data = new_data end
      if steps ~= '' then head[STEPS] = steps end
      call('HSET', P .. 'jobs:' .. queue, id, seal(state, place, head, result, data))
    end
    if progress ~= '' then tell_one(queue, 'progress', id, head, progress) end
    if new_data ~= '' then tell_one(queue, 'updated', id, head) end
    add_lines(queue, id, lines)
  else
    lost[#lost + 1] = number
  end
end

finish()
return lost
