-- adding.lua · how new jobs are stored; part of every step that does

-- Store jobs that are alike, in their order; a known id is left as it is. `group` is queue, name, priority, delay in µs
-- (-1: none), attempts, max_stalls, options, and ids and data in turn. Jobs are numbered on from `number`, and `known`
-- is given number and record of each whose id was known. Gives the number of the last.
local function add_alike(group, number, known)
  local queue, name, priority, delay = group[1], group[2], group[3], group[4]
  local jobs, pairs_ = P .. 'jobs:' .. queue, group[8]
  local delayed = delay >= 0
  local head = { name, priority, now, group[5], group[6], group[7], 0, 0, 0, 0, '', 0, 0, 0, 0, '', '' }
  if delayed then head[DUE] = now + delay end
  local text = middle(write_head(head), '')
  local line = line_of(head)
  local new, seen = {}, {}
  know_queue(queue)
  for first = 1, #pairs_, 2 * CHUNK do
    local ids, last = {}, math.min(first + 2 * CHUNK - 1, #pairs_)
    for i = first, last, 2 do ids[#ids + 1] = pairs_[i] end
    local there = call('HMGET', jobs, unpack(ids))
    local fields, places, made = {}, {}, 0
    for i, id in ipairs(ids) do
      number = number + 1
      local v = there[i] or seen[id]
      if v then
        known[#known + 1] = number
        known[#known + 1] = v
      else
        made = made + 1
        if delayed then
          v = 'D\0\0\0\0\0\0\0' .. text .. pairs_[first + 2 * i - 1]
          places[2 * made - 1], places[2 * made] = head[DUE], id
        else
          local seven_bytes = seven(take_stamps(1))
          v = 'W' .. seven_bytes .. text .. pairs_[first + 2 * i - 1]
          places[made] = seven_bytes .. id
        end
        fields[2 * made - 1], fields[2 * made] = id, v
        new[#new + 1] = id
        seen[id] = v
      end
    end
    if made > 0 then
      call('HSET', jobs, unpack(fields))
      if delayed then
        call('ZADD', P .. 'delayed:' .. queue, unpack(places))
      else
        call('RPUSH', P .. 'line:' .. queue .. ':' .. line, unpack(places))
      end
    end
  end
  if #new > 0 then
    count(queue, name, nil, delayed and 'D' or 'W', #new)
    tell(queue, delayed and 'delayed' or 'waiting', new, name, 0)
    if not delayed then
      call('ZADD', P .. 'open:' .. queue, priority, line)
      woken[queue] = true
    end
  end
  return number
end
