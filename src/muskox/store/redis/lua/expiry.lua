-- expiry.lua · the end of jobs that had to be begun in time, and that nobody has begun with
--
-- Per queue a sorted set of the ids of jobs that have such a time, by when it is over. What became of a job is seen from
-- its record, so nothing is done there when one starts or ends.

-- A job that runs when its time is over may be given back: it is looked at again after so many microseconds.
local EXPIRY_LOOK = 60000000

local function fail_unbegun(queue, id, v, seconds)
  local state, _, text, _, data = open_record(v)
  local head = read_head(text)
  leave(queue, id, v, head)
  -- The attempt is counted, as it is when a worker comes too late, so that one that is retried by hand does not expire again.
  head[ATTEMPT], head[ENDED], head[DUE], head[LAST] = 1, now, 0, 0
  local said = format('not begun within %.6g seconds after it was added', seconds)
  head[FAILURE] = cjson.encode({ kind = 'expired', type = 'Expired', message = said, final = true })
  call('ZADD', P .. 'failed:' .. queue, now, id)
  call('HSET', P .. 'jobs:' .. queue, id, seal('F', '\0\0\0\0\0\0\0', head, '', data))
  count(queue, head[NAME], state, 'F', 1)
  tell_one(queue, 'failed', id, head, head[FAILURE])
  if is_tied(head) then ended(queue, id, head, 'F', '') end
end

-- Fail what is over, looking at `most` jobs at most; gives how many it looked at.
local function expire_jobs(queue, most)
  local key, failed = P .. 'expires:' .. queue, {}
  local over = call('ZRANGEBYSCORE', key, '-inf', format('(%.0f', now), 'LIMIT', 0, most)
  for _, id in ipairs(over) do
    local v = call('HGET', P .. 'jobs:' .. queue, id)
    local state = v and sub(v, 1, 1)
    local head = state and is_unended(state) and read_head(select(3, open_record(v)))
    local seconds = head and tonumber(string.match(head[OPTIONS], '"expires_in":([%d%.eE+-]+)') or nil)
    local ends = seconds and head[STALLS] == 0 and head[ADDED] + floor(seconds * 1000000)
    if ends and ends >= now then
      call('ZADD', key, ends, id)
    elseif ends and state == 'A' and head[ATTEMPT] == 1 then
      call('ZADD', key, now + EXPIRY_LOOK, id)
    else
      call('ZREM', key, id)
      if ends and head[ATTEMPT] == 0 then
        fail_unbegun(queue, id, v, seconds)
        failed[#failed + 1] = id
      end
    end
  end
  for line in pairs(left_lines) do trim_line(queue, line) end
  left_lines = {}
  add_later(queue, failed)
  return #over
end
