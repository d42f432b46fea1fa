-- clear.lua · delete ended jobs whose time is over or that are too many, oldest first, and old events
-- needs  records
-- needs  lines
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- needs  nodes
-- needs  flowing
-- needs  again
-- ASKED  how many at most, then per queue with a rule of its own: µs and count for completed, the same for failed
--        and cancelled; the rule for all others; last the µs for which flows are kept
-- RETURNS  how many jobs
-- May run without memory to spare.

begin()
local limit, rules, usual, flows_kept = unpack(ASKED)
local cleared = 0

local function drop(queue, ids)
  local jobs = P .. 'jobs:' .. queue
  for _, id in ipairs(ids) do
    local v = call('HGET', jobs, id)
    local state = v and sub(v, 1, 1)
    if state and ENDED_KEY[state] then
      local ended = ENDED_KEY[state] .. queue
      if call('ZREM', P .. ended, id) == 0 then
        call('ZREM', P .. 'own-' .. ended, id)
        call('ZREM', P .. 'until:' .. queue, id)
      end
      local head = read_head(select(3, open_record(v)))
      count(queue, head[NAME], state, nil, 1)
      gone(head)
      call('HDEL', jobs, id)
      call('DEL', P .. 'log:' .. queue .. ':' .. id)
      cleared = cleared + 1
    else
      -- Something else than a step of ours has been here.
      for _, key in pairs(ENDED_KEY) do
        call('ZREM', P .. key .. queue, id)
        call('ZREM', P .. 'own-' .. key .. queue, id)
      end
      call('ZREM', P .. 'until:' .. queue, id)
    end
  end
end

-- The oldest of two sorted sets together.
local function oldest_of(one, other, number)
  local its, others = call('ZRANGE', one, 0, number - 1, 'WITHSCORES'), call('ZRANGE', other, 0, number - 1, 'WITHSCORES')
  local ids, i, k = {}, 1, 1
  while #ids < number and (its[i] or others[k]) do
    if its[i] and (not others[k] or tonumber(its[i + 1]) <= tonumber(others[k + 1])) then
      ids[#ids + 1], i = its[i], i + 2
    else
      ids[#ids + 1], k = others[k], k + 2
    end
  end
  return ids
end

local function clear_state(queue, state, seconds, most)
  local key = ENDED_KEY[state] .. queue
  local before = format('(%.0f', now - seconds)
  drop(queue, call('ZRANGEBYSCORE', P .. key, '-inf', before, 'LIMIT', 0, limit - cleared))
  local excess = call('ZCARD', P .. key) + call('ZCARD', P .. 'own-' .. key) - most
  excess = math.min(excess, limit - cleared)
  if excess > 0 then drop(queue, oldest_of(P .. key, P .. 'own-' .. key, excess)) end
end

-- Forget what says nothing: idle keys, and a hold that is over.
local function tidy_limits(queue)
  forget_keys(queue, limit)
  if call('HEXISTS', LIMITS, queue .. ':bucket') == 1 and call('HEXISTS', LIMITS, queue) == 0 then
    if not held_until(read_limits(queue)) then call('HDEL', LIMITS, queue .. ':bucket') end
  end
end

call('XTRIM', P .. 'events', 'MINID', math.max(0, event - MOST_EVENTS))
for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
  sweep_keys(queue, limit)
  if limited then tidy_limits(queue) end
  if cleared >= limit then break end
  drop(queue, call('ZRANGEBYSCORE', P .. 'until:' .. queue, '-inf', now, 'LIMIT', 0, limit - cleared))
  local rule = rules[queue] or usual
  if cleared < limit then clear_state(queue, 'C', rule[1], rule[2]) end
  if cleared < limit then clear_state(queue, 'F', rule[3], rule[4]) end
  if cleared < limit then clear_state(queue, 'X', rule[3], rule[4]) end
end
clear_flows(now - flows_kept, limit)
finish()

-- Where no limits and no keys are left, nobody looks for them any more.
local function has_limits()
  if call('EXISTS', LIMITS) == 1 then return true end
  for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
    if call('EXISTS', P .. 'keys:' .. queue) == 1 then return true end
  end
  return false
end

if limited and not has_limits() then call('HDEL', META, 'limited') end
return cleared
