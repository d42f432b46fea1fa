-- again.lua · jobs of flows that run again, or are ended by hand; part of steps that do that
-- gives  cancel_job, take_all_back, retry_job, wait_behind

with_flowing()

-- --- running again --------------------------------------------------------------------

-- An ended job is about to run again: blocked children wait for it too.
local function take_back(queue, id, head, state)
  local flow = flow_of(head[FLOW])
  if not flow then return end
  flow[state], flow.cancel, flow.is_changed = flow[state] - 1, 0, true
  if flow.is_batch then return end
  local its = nodes_of(flow.id)
  local number = number_in(its, queue, id)
  local node = number and node_in(its, number)
  if not node or node.state == '' then return end
  node.state = ''
  change_node(its, node)
  call('HDEL', its.key, 'o' .. number)
  each_edge(its, node, 'c', function(child, _, waits)
    if waits then call('HINCRBY', its.key, 'w' .. child.number, 1) end
  end)
end

-- Note that a job waits for so many parents, whose record the caller writes.
function wait_behind(its, node, number, added)
  call('HSET', its.key, 'w' .. node.number, number)
  call('ZADD', P .. 'blocked:' .. node.queue, added, node.id)
end

-- Block a job that is to run again if it has parents that have not ended; whether it did.
local function block_behind(queue, id, head)
  local flow = head[FLOW] ~= '' and flow_of(head[FLOW])
  if not flow or flow.is_batch then return false end
  local its = nodes_of(flow.id)
  local number = number_in(its, queue, id)
  local unended = number and unended_parents(its, node_in(its, number)) or 0
  if unended > 0 then wait_behind(its, its.by_number[number], unended, head[ADDED]) end
  return unended > 0
end

-- --- by hand --------------------------------------------------------------------------

-- End a job that has not ended; gives its new record.
function cancel_job(queue, id, head, data)
  end_window(queue, id, head)
  head[ENDED], head[DUE], head[LAST] = now, 0, 0
  call('ZADD', P .. 'cancelled:' .. queue, now, id)
  return seal('X', BEHIND, head, '', data)
end

-- Jobs with their records, which ended, are about to be retried.
function take_all_back(queue, found)
  for _, pair in ipairs(found) do
    local head = read_head(select(3, open_record(pair[2])))
    if head[FLOW] ~= '' then take_back(queue, pair[1], head, sub(pair[2], 1, 1)) end
  end
end

-- Let a job that ended run again, with one more attempt; gives its new record.
function retry_job(queue, id, head, data)
  if head[ATTEMPT] >= math.max(head[ATTEMPTS], 1) then head[ATTEMPTS] = head[ATTEMPT] + 1 end
  head[STALLS], head[ENDED], head[CLEAR_AT], head[LAST], head[DUE] = 0, 0, 0, 0, 0
  if block_behind(queue, id, head) then return seal('B', BEHIND, head, '', data) end
  local state, place = arrive(queue, id, head)
  return seal(state, place, head, '', data)
end
