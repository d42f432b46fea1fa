-- sifting.lua · which picks may start by the limits of their queue and key; part of the claim
-- gives  look_at_limits, pick_limited, use_up, listens
--
-- A want knows the limits of its queue as `limits`, and how many jobs of it may start as `room`.

with_buckets()
with_keyed()

-- Find out how many jobs of each want may start; whether there are keys to look at yet.
function look_at_limits(wants)
  local keys_left = false
  for _, want in ipairs(wants) do
    want.limits = read_limits(want[1])
    want.room = may_start(want.limits)
    keys_left = look_at_keys(want[1], want.limits.walk) or keys_left
  end
  for _, ring in ipairs(ring_list) do let_in(ring) end
  return keys_left
end


-- Add those picks of a want that their keys let start to `chosen`; all others are blocked again. Gives how many.
local function sift(want, picks, chosen)
  local by_place, keys, back = {}, {}, {}
  for i, v in ipairs(picks.vs) do
    local key = key_in(v, 16)
    by_place[i] = key
    if key ~= '' then keys[#keys + 1] = key end
  end
  local ring = #keys > 0 and ring_of(want[1])
  if ring then read_keys(ring, keys) end
  for i, id in ipairs(picks.ids) do
    if by_place[i] == '' or start_of_key(ring, by_place[i]) then
      chosen.ids[#chosen.ids + 1], chosen.vs[#chosen.vs + 1] = id, picks.vs[i]
    else
      back[#back + 1] = i
    end
  end
  local ids, names, attempts = {}, {}, {}
  for number = #back, 1, -1 do
    local i = back[number]
    local head = read_head(select(3, open_record(picks.vs[i])))
    send_back(ring, by_place[i], picks.ids[i], picks.vs[i], head)
    ids[number], names[number], attempts[number] = picks.ids[i], head[NAME], head[ATTEMPT]
  end
  tell(want[1], 'blocked', ids, names, attempts)
  want.room, skipped = want.room + #back, skipped + #back
  return #picks.ids - #back, #back
end

-- What is claimed: picks, and with them those that keys let into the line for them.
function pick_limited(wants, limit)
  local chosen, taken, all_seen = {}, 0, true
  for place in ipairs(wants) do chosen[place] = { ids = {}, vs = {} } end
  repeat
    local picks, _, its_all_seen = pick(wants, limit - taken)
    local again = 0
    for place, want in ipairs(wants) do
      local number, back = sift(want, picks[place], chosen[place])
      taken, again = taken + number, again + back
    end
    for _, ring in ipairs(ring_list) do again = again + let_in(ring) end
    all_seen = its_all_seen
  until taken >= limit or again == 0 or skipped >= MOST_SKIPPED
  return chosen, taken, all_seen
end

-- Take note that so many jobs of a want start.
function use_up(want, number)
  local its = want.limits
  its.active = its.active + number
  if its.interval > 0 then
    its.empty = without_tokens(its.empty, its.interval, its.size, number)
    keep_bucket(want[1], its)
  end
end

-- Whether hints are wanted of a queue: not while it is held for some time, as long as there are jobs. `wakes` is given in
-- how many µs more of it may start, where that is known.
function listens(want, place, wakes)
  local most, moment = may_start(want.limits)
  if most > 0 then
    moment = call('ZRANGE', P .. LISTS[1] .. want[1], 0, 0, 'WITHSCORES')[2]
  elseif moment and call('EXISTS', P .. 'open:' .. want[1]) == 0 then
    moment = nil
  end
  if moment then wakes[#wakes + 1], wakes[#wakes + 2] = place, math.max(0, math.ceil(moment - steady)) end
  return most > 0 or not moment
end
