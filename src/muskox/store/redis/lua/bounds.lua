-- bounds.lua · how many jobs may wait in a queue; part of the steps that add
-- gives  bound_of, are_bounded

-- nil for any number; and the limits of the queue as text.
function bound_of(queue)
  local kept = call('HGET', P .. 'limits', queue)
  local text = kept and unpack_text(kept)[1] or ''
  return tonumber(string.match(text, '"max_waiting":(%d+)') or nil), text
end

-- Whether one of the queues bounds how many jobs wait in it.
function are_bounded(groups)
  for _, group in ipairs(groups) do
    if bound_of(group[1]) then return true end
  end
  return false
end
