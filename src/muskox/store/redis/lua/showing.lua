-- showing.lua · limits of queues and keys, and how they stand, as they are shown; part of steps that only look

-- Tokens now (-1: there is no rate), when the next comes (0: there are some), until when it is held (0: it is not).
local function stand_of(its)
  local tokens, next_at = -1, 0
  if its.interval > 0 then
    tokens = tokens_in(its.empty, its.interval, its.size)
    if tokens == 0 then next_at = tokens_at(its.empty, its.interval, 1) - set_back end
  end
  local held = held_until(its)
  return tokens, next_at, held and held - set_back or 0
end

-- Limits as text, what was declared ("": nothing), how many jobs run, tokens, next, held.
local function show_queue(queue)
  local its = read_limits(queue)
  return { its.text, its.declared, active_of(queue), stand_of(its) }
end

-- Key, its own limits as text, how many jobs are in line, blocked, active, tokens, next, held.
local function show_key(its)
  return { its.key, its.own and its.own[1] or '{}', its.open, its.blocked, its.active, stand_of(its) }
end
