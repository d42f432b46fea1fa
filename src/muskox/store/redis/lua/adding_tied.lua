-- adding_tied.lua · how new jobs are stored that concern others; part of steps that do

-- As add_alike; beside what it has there, `group` has the ties of each job, which is its key ("": none).
-- `held` is given the number of each that is blocked.
local function add_tied(group, number, known, held, joins)
  local queue, name, priority, delay, ids, data, ties = group[1], group[2], group[3], group[4], group[8], group[9], group[10]
  with_keyed()
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
