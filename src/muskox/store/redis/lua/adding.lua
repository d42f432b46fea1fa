-- adding.lua · how new jobs are stored; part of every step that does

-- Have jobs looked at when the time is over in which they have to be begun, if their options say so.
local function expire_later(queue, options, ids, added)
  local seconds = options ~= '' and string.match(options, '"expires_in":([%d%.eE+-]+)')
  if not seconds then return end
  local over = added + floor(tonumber(seconds) * 1000000)
  for _, id in ipairs(ids) do call('ZADD', P .. 'expires:' .. queue, over, id) end
end

-- Store jobs that are alike, in their order; a known id is left as it is. `group` is queue, name, priority, delay in µs
-- (-1: none), attempts, max_stalls, options, ids, data. Jobs are numbered on from `number`, and `known` is given number
-- and record of each whose id was known. `joins` is the flow that they join (flow), if any, and is given the ids of those
-- that were stored (ids). Gives the number of the last.
local function add_alike(group, number, known, joins)
  local queue, name, priority, delay, ids, data = group[1], group[2], group[3], group[4], group[8], group[9]
  local jobs, delayed, size = P .. 'jobs:' .. queue, delay >= 0, #ids
  local head = { name, priority, now, group[5], group[6], group[7] }
  if delayed then head[DUE] = now + delay end
  if joins then head[FLOW] = joins.flow end
  local text, line = middle(write_head(head), ''), line_of(head)
  local new, seen, is_new_line = {}, {}, false
  for first = 1, size, CHUNK do
    local last = math.min(first + CHUNK - 1, size)
    -- One job alone needs no look before it is written.
    local there = size > 1 and call('HMGET', jobs, unpack(ids, first, last)) or {}
    local fields, places, made = {}, {}, 0
    for i = first, last do
      local id = ids[i]
      local v = there[i - first + 1] or seen[id]
      if v then
        known[#known + 1] = number + i
        known[#known + 1] = v
      else
        made = made + 1
        if delayed then
          v = 'D\0\0\0\0\0\0\0' .. text .. data[i]
          places[2 * made - 1], places[2 * made] = head[DUE], id
        else
          local seven_bytes = seven(take_stamps(1))
          v = 'W' .. seven_bytes .. text .. data[i]
          places[made] = seven_bytes .. id
        end
        fields[2 * made - 1], fields[2 * made] = id, v
        new[#new + 1] = id
        seen[id] = v
      end
    end
    if size == 1 and call('HSETNX', jobs, fields[1], fields[2]) == 0 then
      known[#known + 1] = number + 1
      known[#known + 1] = call('HGET', jobs, fields[1])
      return number + 1
    end
    if made > 0 then
      if size > 1 then call('HSET', jobs, unpack(fields)) end
      if delayed then
        call('ZADD', P .. 'delayed:' .. queue, unpack(places))
      else
        -- A line that was there before is among the open ones, and its queue among the known ones.
        is_new_line = call('RPUSH', P .. 'line:' .. queue .. ':' .. line, unpack(places)) == made or is_new_line
      end
    end
  end
  if joins then joins.ids = new end
  if #new > 0 then
    count(queue, name, nil, delayed and 'D' or 'W', #new)
    tell(queue, delayed and 'delayed' or 'waiting', new, name, 0)
    if not delayed then
      if is_new_line then call('ZADD', P .. 'open:' .. queue, priority, line) end
      woken[queue] = true
    end
    if delayed or is_new_line then know_queue(queue) end
    if group[7] ~= '' then expire_later(queue, group[7], new, now) end
  end
  return number + size
end
