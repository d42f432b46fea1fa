-- lines.lua · what was left behind in lines; part of every step that looks there

local function is_waiting_at(v, place)
  return v and byte(v, 1) == 87 and sub(v, 2, 8) == place
end

-- Drop what was left behind at the front of a line.
local function trim_line(queue, line)
  local list, jobs = P .. 'line:' .. queue .. ':' .. line, P .. 'jobs:' .. queue
  for _ = 1, 1000 do
    local element = call('LINDEX', list, 0)
    if not element then break end
    if is_waiting_at(call('HGET', jobs, sub(element, 8)), sub(element, 1, 7)) then return end
    call('LPOP', list)
  end
  if call('EXISTS', list, P .. 'early:' .. queue .. ':' .. line) == 0 then
    call('ZREM', P .. 'open:' .. queue, line)
  end
end
