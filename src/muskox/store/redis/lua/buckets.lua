-- buckets.lua · how many jobs may start now by a rate, and until when nothing starts; part of steps that know limits
-- gives  LIMITS, active_of, held_until, hold_for, keep_bucket, may_start, read_limits, tokens_at, tokens_in
-- gives  without_tokens
--
-- A bucket is one number, `empty`: the moment at which it would have been empty. All moments are by the steady clock.
-- The hash `limits` has of a queue Q: its rule under Q, how many jobs run under Q:active where their number is limited,
-- bucket and hold under Q:bucket, and under Q:walk how far its keys have been looked at after a change of limits.

LIMITS = P .. 'limits'

-- As `Rate.tokens` of core/limits.py, with its forgiveness.
function tokens_in(empty, interval, size)
  return math.max(0, math.min(size, floor((steady - empty) / interval + 0.000001)))
end

function without_tokens(empty, interval, size, number)
  return math.max(empty, steady - size * interval) + number * interval
end

-- When there will be so many tokens.
function tokens_at(empty, interval, number)
  return math.ceil(empty + number * interval)
end

-- Until when a queue or key is held, nil when it is not.
function held_until(its)
  return its.hold > steady and its.hold or nil
end

-- Hold a queue or key for so many µs; a longer hold stays, 0 ends it.
function hold_for(its, duration)
  if duration == 0 then
    its.hold = 0
  else
    its.hold = math.max(its.hold, steady + duration)
  end
end

-- What holds for a queue as a whole, 0 for no limit, and how it stands.
function read_limits(queue)
  local kept, active, bucket, walk = unpack(call('HMGET', LIMITS, queue, queue .. ':active', queue .. ':bucket', queue .. ':walk'))
  local rule, its = kept and unpack_text(kept) or {}, bucket and unpack_text(bucket) or {}
  return {
    text = rule[1] or '{}', declared = rule[2] or '', interval = rule[3] or 0, size = rule[4] or 0,
    concurrency = rule[5] or 0, active = tonumber(active or 0), walk = walk,
    empty = its[1] or 0, hold = its[2] or 0,
  }
end

-- How many jobs of a queue run, by its figures.
function active_of(queue)
  local active, figures = 0, call('HGETALL', P .. 'counts:' .. queue)
  for i = 1, #figures, 2 do
    if byte(figures[i], 1) == 51 then active = active + tonumber(figures[i + 1]) end
  end
  return active
end

function keep_bucket(queue, its)
  call('HSET', LIMITS, queue .. ':bucket', pack({ its.empty, its.hold }))
end

-- How many jobs of a queue may start now, and when more may, where that is a matter of time.
function may_start(its)
  local held = held_until(its)
  if held then return 0, held end
  local most, moment = math.huge, nil
  if its.concurrency > 0 then most = math.max(0, its.concurrency - its.active) end
  if its.interval > 0 then
    local tokens = tokens_in(its.empty, its.interval, its.size)
    if tokens < most then most, moment = tokens, tokens_at(its.empty, its.interval, tokens + 1) end
  end
  return most, moment
end
