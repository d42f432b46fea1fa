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

-- The same of jobs that concern others: beside all that, `group` has the ties of each job, which is its key ("": none).
-- `held` is given the number of each that is blocked.
local function add_tied(group, number, known, held, joins)
  local queue, name, priority, delay, ids, data, ties = group[1], group[2], group[3], group[4], group[8], group[9], group[10]
  local jobs, ring, told, seen = P .. 'jobs:' .. queue, ring_of(queue), { D = {}, W = {}, B = {} }, {}
  local head = { name, priority, now, group[5], group[6], group[7] }
  if delay >= 0 then head[DUE] = now + delay end
  if joins then head[FLOW] = joins.flow end
  local text, line = write_head(head), line_of(head)
  for first = 1, #ids, CHUNK do
    local last, fields, line_places, due, keys = math.min(first + CHUNK - 1, #ids), {}, {}, {}, {}
    local there = call('HMGET', jobs, unpack(ids, first, last))
    for i = first, last do
      if ties[i][1] ~= '' then keys[#keys + 1] = ties[i][1] end
    end
    read_keys(ring, keys)
    for i = first, last do
      local id, key = ids[i], ties[i][1]
      local v = there[i - first + 1] or seen[id]
      if v then
        known[#known + 1] = number + i
        known[#known + 1] = v
      else
        local state, place = 'D', '\0\0\0\0\0\0\0'
        head[KEY] = key
        if delay >= 0 then
          due[#due + 1], due[#due + 2] = head[DUE], id
        else
          -- As `arrive`, but that all of a line are put there together.
          local behind = key ~= '' and block(queue, id, head)
          state, place = behind and 'B' or 'W', behind or seven(take_stamps(1))
          if behind then held[#held + 1] = number + i else line_places[#line_places + 1] = place .. id end
        end
        v = state .. place .. middle(mark_key(key) .. text, '') .. data[i]
        fields[#fields + 1] = id
        fields[#fields + 1] = v
        seen[id], told[state][#told[state] + 1] = v, id
        if joins then joins.ids[#joins.ids + 1] = id end
      end
    end
    if #fields > 0 then call('HSET', jobs, unpack(fields)) end
    if #due > 0 then call('ZADD', P .. 'delayed:' .. queue, unpack(due)) end
    if #line_places > 0 then
      call('RPUSH', P .. 'line:' .. queue .. ':' .. line, unpack(line_places))
      call('ZADD', P .. 'open:' .. queue, priority, line)
      woken[queue] = true
    end
  end
  know_queue(queue)
  expire_later(queue, group[7], ids, now)
  for state, new in pairs(told) do
    if #new > 0 then
      count(queue, name, nil, state, #new)
      tell(queue, FACT[state], new, name, 0)
    end
  end
  return number + #ids
end
