-- leases.lua · how the leases of active jobs are kept; part of every step that concerns them
--
-- The jobs of one claim have a lease together: its first fence, the ids in the order of their fences, and how many of
-- them it still concerns. A job whose lease was renewed has an end of its own in a sorted set beside it.

local function is_active_under(v, token)
  return v and byte(v, 1) == 65 and sub(v, 2, 8) == token
end

-- Tell a claim that so many of its jobs are active no more.
local function leave_claim(queue, first, number)
  if call('HINCRBY', P .. 'left:' .. queue, first, -number) <= 0 then
    call('HDEL', P .. 'left:' .. queue, first)
    call('HDEL', P .. 'claims:' .. queue, first)
    call('ZREM', P .. 'active:' .. queue, first)
  end
end

-- The ids of a claim by their fences: pairs of fence and id.
local function fences_of(queue, first)
  local text, pairs_ = call('HGET', P .. 'claims:' .. queue, first), {}
  local number = text and number_of(first)
  for i, id in ipairs(text and unpack_text(text) or {}) do pairs_[i] = { seven(number + i - 1), id } end
  return pairs_
end

-- All active jobs of a queue, each as id and record.
local function active_jobs(queue)
  local jobs, found, seen = P .. 'jobs:' .. queue, {}, {}
  local function add(token, id)
    local v = not seen[id] and call('HGET', jobs, id)
    if is_active_under(v, token) then
      seen[id] = true
      found[#found + 1] = { id, v }
    end
  end
  for _, first in ipairs(call('ZRANGE', P .. 'active:' .. queue, 0, -1)) do
    for _, pair in ipairs(fences_of(queue, first)) do add(pair[1], pair[2]) end
  end
  for _, member in ipairs(call('ZRANGE', P .. 'leases:' .. queue, 0, -1)) do add(sub(member, 1, 7), sub(member, 8)) end
  return found
end
