-- ties.lua · what the moves of one job mean for others; part of every step that moves jobs
-- gives  FACT, ends, dropped, is_tied, arrive, left, ended, gone
--
-- A job without a key that is in no flow concerns nobody else, and of it only `is_tied` is asked.

FACT = { W = 'waiting', B = 'blocked', D = 'delayed' }

-- Whether somebody waits for what becomes of a job.
function is_tied(head)
  return head[KEY] ~= '' or head[FLOW] ~= ''
end

-- The jobs of flows that have ended in this step, as `ended` was told, and by flow how many of its jobs were deleted;
-- flowing.lua does before the step's end what that means.
ends, dropped = {}, {}

-- Let a job wait that does not yet, or no longer: in its line, or behind others. Gives the state and the stamp for its
-- record, which the caller writes; and the caller counts it and tells of it. `arrival` is since when it waits, nil: now.
function arrive(queue, id, head, arrival)
  if head[KEY] ~= '' then
    with_keyed()
    local held = block(queue, id, head, arrival)
    if held then return 'B', held end
  end
  local place, line = seven(take_stamps(1)), line_of(head)
  if arrival then
    call('ZADD', P .. 'early:' .. queue .. ':' .. line, arrival, place .. id)
  else
    call('RPUSH', P .. 'line:' .. queue .. ':' .. line, place .. id)
  end
  call('ZADD', P .. 'open:' .. queue, head[PRIORITY], line)
  woken[queue] = true
  return 'W', place
end

-- A tied job leaves the state `from`, in whichever way but a claim; what becomes of it is not written yet, and it may
-- arrive again after that.
function left(queue, id, head, from)
  if head[KEY] ~= '' then
    with_keyed()
    leave_key(queue, head[KEY], from)
  end
end

-- A tied job has ended, and that is written: `to` is its state, or nil where it was deleted before it had ended.
function ended(queue, id, head, to, result)
  if head[FLOW] ~= '' then ends[#ends + 1] = { queue, id, head, to, result } end
end

-- A job is deleted, in whatever state.
function gone(head)
  if head[FLOW] ~= '' then dropped[head[FLOW]] = (dropped[head[FLOW]] or 0) + 1 end
end
