-- recover.lua · take back active jobs whose lease ran out
-- needs  records
-- needs  lines
-- needs  leases
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
-- ASKED  how many at most, stalls allowed where nobody said, µs of delay by number of stalls
-- RETURNS  per job: queue, id, record, worker
-- May run without memory to spare.

begin()
local limit, usual, delays = ASKED[1], ASKED[2], ASKED[3]
local found, failed = {}, {}

local function failure_of(stalls, allowed, worker)
  local said = format('its lease ran out %d times, %d are allowed; last held by worker %s', stalls, allowed, worker)
  return cjson.encode({ kind = 'stalled', type = 'Stalled', message = said })
end

local function recover(queue, id, v)
  local _, _, text, _, data = open_record(v)
  local head = read_head(text)
  local worker, stalls = head[WORKER], head[STALLS] + 1
  local allowed = head[MAX_STALLS] < 0 and usual or head[MAX_STALLS]
  local delay = delays[math.min(stalls, #delays)]
  head[ATTEMPT], head[STALLS], head[LAST] = head[ATTEMPT] - 1, stalls, 0
  tell_one(queue, 'stalled', id, head, tostring(stalls))
  if is_tied(head) then left(queue, id, head, 'A') end
  if stalls > allowed then
    head[FAILURE], head[ENDED] = failure_of(stalls, allowed, worker), now
    v = seal('F', '\0\0\0\0\0\0\0', head, '', data)
    call('ZADD', P .. 'failed:' .. queue, now, id)
    count(queue, head[NAME], 'A', 'F', 1)
    tell_one(queue, 'failed', id, head, head[FAILURE])
    failed[#failed + 1] = { queue, id }
  elseif delay > 0 then
    head[DUE] = now + delay
    v = seal('D', '\0\0\0\0\0\0\0', head, '', data)
    call('ZADD', P .. 'delayed:' .. queue, head[DUE], id)
    count(queue, head[NAME], 'A', 'D', 1)
    tell_one(queue, 'delayed', id, head)
  else
    local state, place = arrive(queue, id, head)
    v = seal(state, place, head, '', data)
    count(queue, head[NAME], 'A', state, 1)
    tell_one(queue, FACT[state], id, head)
  end
  woken[queue] = true
  call('HSET', P .. 'jobs:' .. queue, id, v)
  if stalls > allowed and is_tied(head) then ended(queue, id, head, 'F', '') end
  found[#found + 1], found[#found + 2], found[#found + 3], found[#found + 4] = queue, id, v, worker
end

local function is_full()
  return #found >= 4 * limit
end

-- Those whose leases were renewed and ran out after that.
local function recover_renewed(queue)
  local leases, over = P .. 'leases:' .. queue, format('(%.0f', now)
  for _, member in ipairs(call('ZRANGEBYSCORE', leases, '-inf', over, 'LIMIT', 0, limit - #found / 4)) do
    local id = sub(member, 8)
    local v = call('HGET', P .. 'jobs:' .. queue, id)
    call('ZREM', leases, member)
    if is_active_under(v, sub(member, 1, 7)) then
      leave_claim(queue, seven(read_head(select(3, open_record(v)))[LAST]), 1)
      recover(queue, id, v)
    end
  end
end

-- Those that are still active under their first lease; then nothing is left to remember of the claim.
local function recover_claim(queue, first)
  for _, pair in ipairs(fences_of(queue, first)) do
    local token, id = pair[1], pair[2]
    local v = call('HGET', P .. 'jobs:' .. queue, id)
    if is_active_under(v, token) and not call('ZSCORE', P .. 'leases:' .. queue, token .. id) then
      if is_full() then return end
      recover(queue, id, v)
    end
  end
  leave_claim(queue, first, 9007199254740991)
end

for _, queue in ipairs(call('ZRANGE', P .. 'queues', 0, -1)) do
  if is_full() then break end
  recover_renewed(queue)
  for _, first in ipairs(call('ZRANGEBYSCORE', P .. 'active:' .. queue, '-inf', format('(%.0f', now), 'LIMIT', 0, 100)) do
    if not is_full() then recover_claim(queue, first) end
  end
end
for _, one in ipairs(failed) do add_later(one[1], { one[2] }) end

finish()
return found
