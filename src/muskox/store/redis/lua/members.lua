-- members.lua · the jobs of a flow, and moving many of them; part of the steps about whole flows

-- Whether a record is that of a job of a flow which was added at that moment and is in one of these states.
local function is_member(its, v, added, states)
  if not v or not string.find(states, sub(v, 1, 1), 1, true) then return false end
  local head = read_head(select(3, open_record(v)))
  return head[FLOW] == its.id and head[ADDED] == number_of(added)
end

-- Those jobs from a place of the list of a flow on whose state is among `states`: queue, id and record of each, `limit` at
-- most; the place up to which it looked, and how many it looked at.
local function members_from(its, place, states, limit, most_seen)
  local found, seen, names_seen = {}, 0, {}
  place = math.max(place, its.trimmed)
  while #found < limit and seen < most_seen do
    local names = call('LRANGE', flow_jobs_key(its.id), place - its.trimmed, place - its.trimmed + CHUNK - 1)
    if #names == 0 then break end
    for _, name in ipairs(names) do
      if #found >= limit then break end
      local queue, id = string.match(sub(name, 8), '^([^:]*):(.*)$')
      local v = call('HGET', P .. 'jobs:' .. queue, id)
      place, seen = place + 1, seen + 1
      if not names_seen[name] and is_member(its, v, sub(name, 1, 7), states) then
        found[#found + 1] = { queue, id, v }
        names_seen[name] = true
      end
    end
  end
  return found, place, seen
end

-- Move them in their order, those of one queue that come one after the other together.
local function move_members(found, kind, move, after)
  local first = 1
  while found[first] do
    local queue, run = found[first][1], {}
    while found[first] and found[first][1] == queue do
      run[#run + 1] = { found[first][2], found[first][3] }
      first = first + 1
    end
    move_jobs(queue, run, kind, move, after)
  end
end

-- Those that ended are about to be retried.
local function take_members_back(its, found)
  local names = {}
  for i, one in ipairs(found) do names[i] = one[1] .. ':' .. one[2] end
  if not its.is_batch then read_members(nodes_of(its.id), names) end
  for _, one in ipairs(found) do take_all_back(one[1], { { one[2], one[3] } }) end
end
