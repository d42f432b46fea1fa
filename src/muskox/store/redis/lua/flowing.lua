-- flowing.lua · what the ends of jobs mean to their flows: figures, children, and the jobs that follow; part of steps
-- that end jobs, delete them, or let them run again
-- gives  flow_of, keep_flow, flow_jobs_key, tell_later, fall, failure_by, end_flows, clear_flows, long
--
-- The hash `flows` has a record of each flow and batch, a msgpack array of the fields that FLOW_FIELDS names; `here` is how
-- many of its jobs are still there, `trimmed` how many of its list of jobs (when it was added, queue:id, in that order) were
-- dropped from the front; one that is not there, or was added at another moment, is no longer meant. No job before the place `cancel` of that list can be cancelled, none before `retry` be retried.
-- The hash `followers` has under 1 or 2 and the id of a flow the job that follows when all were completed, or all have
-- ended: a group as add.lua has it, and its dedup rule or false.
-- Ended ones of which no job is left are in `flow-over` by the moment of their end.

with_nodes()
with_dedup()

local FLOW_FIELDS = {
  'is_batch', 'is_open', 'is_stopped', 'total', 'C', 'F', 'X', 'ended', 'added', 'stamp', 'here', 'trimmed', 'cancel',
  'retry', 'completed', 'settled', 'completed_added', 'settled_added', 'numbers',
}
local flows, flow_list = {}, {}
local fallen, told_of = {}, {}

function keep_flow(its)
  if not flows[its.id] then flow_list[#flow_list + 1] = its end
  flows[its.id] = its
  return its
end

-- The record of a flow, nil where there is none.
function flow_of(id)
  if flows[id] then return flows[id] end
  local kept = call('HGET', P .. 'flows', id)
  if not kept then return nil end
  local its = { id = id }
  for place, value in ipairs(unpack_text(kept)) do its[FLOW_FIELDS[place]] = value end
  return keep_flow(its)
end

function flow_jobs_key(id)
  return P .. 'flow-jobs:' .. id
end

-- Remember a fact about a job of any queue, to be told with others.
function tell_later(queue, kind, id, head, extra)
  local key = queue .. ':' .. kind
  local its = told_of[key]
  if not its then
    its = { queue = queue, kind = kind, ids = {}, names = {}, attempts = {}, extras = {} }
    told_of[key], told_of[#told_of + 1] = its, its
  end
  local at = #its.ids + 1
  its.ids[at], its.names[at], its.attempts[at], its.extras[at] = id, head[NAME], head[ATTEMPT], extra
end

local function tell_all()
  for _, its in ipairs(told_of) do
    tell(its.queue, its.kind, its.ids, its.names, its.attempts, #its.extras > 0 and its.extras or nil)
  end
  told_of = {}
end

-- --- children -------------------------------------------------------------------------

-- The id as it was given; see ids.py.
function long(id)
  if byte(id, 1) ~= 255 then return id end
  local digits = string.gsub(sub(id, 2), '.', function(one) return format('%02x', byte(one)) end)
  return format('%s-%s-%s-%s-%s', sub(digits, 1, 8), sub(digits, 9, 12), sub(digits, 13, 16), sub(digits, 17, 20), sub(digits, 21))
end

-- The first `most` letters of a text in UTF-8.
local function cut(text, most)
  if #text <= most then return text end
  if not string.find(text, '[\128-\255]') then return sub(text, 1, most) end
  local letters = 0
  for at = 1, #text do
    local one = byte(text, at)
    if one < 128 or one >= 192 then
      letters = letters + 1
      if letters > most then return sub(text, 1, at - 1) end
    end
  end
  return text
end

-- Why a child fails: as `parent_failure` in core/flows.py says it.
function failure_by(node, state, failure, is_removed)
  local why = is_removed and 'was removed before it ended' or 'was cancelled'
  if state == 'F' then
    local is_read, its = pcall(cjson.decode, failure)
    local said = is_read and its.message or ''
    if is_read and (its.type or '') ~= '' then said = its.type .. ': ' .. said end
    why = failure == '' and 'failed' or 'failed: ' .. said
  end
  local said = cut(format('its parent %s in queue %s ', long(node.id), node.queue) .. why, 1000)
  return cjson.encode({ kind = 'parent', type = 'ParentFailed', message = said })
end

-- Jobs of one queue that were blocked by their parents are no longer.
local function leave_all_parents(its, queue, nodes)
  for first = 1, #nodes, CHUNK do
    local waits, ids = {}, {}
    for i = first, math.min(first + CHUNK - 1, #nodes) do
      waits[#waits + 1], ids[#ids + 1] = 'w' .. nodes[i].number, nodes[i].id
    end
    call('HDEL', its.key, unpack(waits))
    call('ZREM', P .. 'blocked:' .. queue, unpack(ids))
  end
end

-- The record of a job that comes to wait. Those without key that begin at once are put in `lines`, to be told of together.
local function freed(node, v, known, lines)
  local queue, a, b, c = node.queue, byte(v, 9, 11)
  local text = sub(v, 16, 15 + a * 65536 + b * 256 + c)
  local key, from = key_in(text, 1)
  text = sub(text, from)
  local head, state, place = known[text], 'W', nil
  if not head then head = read_head(text); known[text] = head end
  head[KEY], head[DUE] = key, 0
  if node.delay > 0 then
    state, place, head[DUE] = 'D', BEHIND, now + node.delay
    call('ZADD', P .. 'delayed:' .. queue, head[DUE], node.id)
    v = seal(state, place, head, '', select(5, open_record(v)))
  elseif key ~= '' then
    state, place = arrive(queue, node.id, head)
  else
    place = seven(take_stamps(1))
    local line = line_of(head)
    local its = lines[line]
    if not its then
      its = { priority = head[PRIORITY], line = line }
      lines[line], lines[#lines + 1] = its, its
    end
    its[#its + 1] = place .. node.id
  end
  count(queue, head[NAME], 'B', state, 1)
  tell_later(queue, FACT[state], node.id, head)
  return state .. place .. sub(v, 9)
end

-- Jobs of one queue that were blocked by their parents come to wait.
local function release(its, queue, nodes)
  local jobs, known, lines = P .. 'jobs:' .. queue, {}, {}
  leave_all_parents(its, queue, nodes)
  for first = 1, #nodes, CHUNK do
    local ids, fields = {}, {}
    for i = first, math.min(first + CHUNK - 1, #nodes) do ids[#ids + 1] = nodes[i].id end
    for i, v in ipairs(call('HMGET', jobs, unpack(ids))) do
      -- Where it is another one, something else than a step of ours has been here.
      if v and sub(v, 1, 8) == 'B' .. BEHIND then
        fields[#fields + 1] = ids[i]
        fields[#fields + 1] = freed(nodes[first + i - 1], v, known, lines)
      end
    end
    if #fields > 0 then call('HSET', jobs, unpack(fields)) end
  end
  for _, line in ipairs(lines) do
    for first = 1, #line, CHUNK do
      local last = math.min(first + CHUNK - 1, #line)
      call('RPUSH', P .. 'line:' .. queue .. ':' .. line.line, unpack(line, first, last))
    end
    call('ZADD', P .. 'open:' .. queue, line.priority, line.line)
    woken[queue] = true
  end
end

-- A job that was blocked by its parents ends because of one of them.
function fall(its, node, failure)
  local queue, id = node.queue, node.id
  local v = call('HGET', P .. 'jobs:' .. queue, id)
  leave_parents(its, node)
  -- Where it is another one, something else than a step of ours has been here.
  if not v or sub(v, 1, 8) ~= 'B' .. BEHIND then return end
  local _, _, text, _, data = open_record(v)
  local head, state = read_head(text), flow_of(its.flow).is_stopped and 'X' or 'F'
  head[ENDED] = now
  if state == 'F' then head[FAILURE] = failure else end_window(queue, id, head) end
  call('ZADD', P .. ENDED_KEY[state] .. queue, now, id)
  call('HSET', P .. 'jobs:' .. queue, id, seal(state, BEHIND, head, '', data))
  count(queue, head[NAME], 'B', state, 1)
  tell_later(queue, state == 'F' and 'failed' or 'cancelled', id, head, state == 'F' and failure or nil)
  ended(queue, id, head, state, '')
  fallen[queue] = fallen[queue] or {}
  table.insert(fallen[queue], id)
end

local function tell_children(its, node, state, failure, is_removed)
  local why, free, queues = nil, {}, {}
  each_edge(its, node, 'c', function(child, meaning, waits)
    if not waits then return end
    if state ~= 'C' and meaning == 'fail' then
      why = why or failure_by(node, state, failure, is_removed)
      fall(its, child, why)
    elseif tonumber(waits) <= 1 then
      if not free[child.queue] then free[child.queue], queues[#queues + 1] = {}, child.queue end
      table.insert(free[child.queue], child)
    else
      call('HINCRBY', its.key, 'w' .. child.number, -1)
    end
  end)
  for _, queue in ipairs(queues) do release(its, queue, free[queue]) end
end

-- Write down how a job ended, `to` nil: it was deleted before, and tell those that wait for it.
local function note_end(queue, id, head, to, result)
  local flow, state = flow_of(head[FLOW]), to or 'X'
  if not flow then return end
  flow[state], flow.is_changed = flow[state] + 1, true
  if state ~= 'C' then flow.retry = 0 end
  if flow.is_batch then return end
  local its = nodes_of(flow.id)
  local number = number_in(its, queue, id)
  local node = number and node_in(its, number)
  if not node then return end
  local failure = to and head[FAILURE] or ''
  node.state = state
  change_node(its, node)
  if result ~= '' or failure ~= '' then call('HSET', its.key, 'o' .. number, pack({ result, failure })) end
  if node.children > 0 then tell_children(its, node, state, failure, not to) end
end

-- --- the flow as a whole --------------------------------------------------------------

local function add_follower(kind, id)
  local kept = call('HGET', P .. 'followers', kind .. id)
  if not kept then return end
  local group, rule = unpack(unpack_text(kept))
  if rule then add_once(group, rule, 0, {}) else add_group(group, 0, {}, {}) end
end

-- Note the end of a flow, and what has followed it.
local function end_flow(its)
  its.ended = now
  call('ZREM', P .. 'flow-unended', its.id)
  if its.C == its.total and not its.completed_added then
    its.completed_added = true
    add_follower(1, its.id)
  end
  if not its.settled_added then
    its.settled_added = true
    add_follower(2, its.id)
  end
end

-- Drop the front of a flow's list of jobs as far as they have gone, of which there are `dropped` more.
local function trim_flow_jobs(its, dropped)
  local list, gone_by = flow_jobs_key(its.id), 0
  if its.here <= 0 then
    gone_by = call('LLEN', list)
  else
    for _ = 1, 2 * dropped do
      local queue, id = string.match(sub(call('LINDEX', list, gone_by) or '', 8), '^([^:]*):(.*)$')
      if not queue or call('HEXISTS', P .. 'jobs:' .. queue, id) == 1 then break end
      gone_by = gone_by + 1
    end
  end
  if gone_by > 0 then call('LTRIM', list, gone_by, -1) end
  its.trimmed = its.trimmed + gone_by
end

local function write_flow(its)
  if its.is_open or its.total > its.C + its.F + its.X then
    if its.ended > 0 then call('ZADD', P .. 'flow-unended', its.stamp, its.id) end
    its.ended = 0
  elseif its.ended == 0 then
    end_flow(its)
  end
  if its.ended > 0 and its.here <= 0 then
    call('ZADD', P .. 'flow-over', its.ended, its.id)
  elseif its.here <= 0 then
    call('ZREM', P .. 'flow-over', its.id)
  end
  local kept = {}
  for place, field in ipairs(FLOW_FIELDS) do kept[place] = its[field] end
  call('HSET', P .. 'flows', its.id, pack(kept))
  its.is_changed = false
end

-- Read the nodes of all jobs that have ended, from one of these on.
local function read_ends(at)
  local names = {}
  for i = at, #ends do
    local id = ends[i][3][FLOW]
    local flow = flow_of(id)
    if flow and not flow.is_batch then
      names[id] = names[id] or {}
      table.insert(names[id], ends[i][1] .. ':' .. ends[i][2])
    end
  end
  for id, its in pairs(names) do read_members(nodes_of(id), its) end
end

-- Do what the ends of jobs in this step mean.
function end_flows()
  local at, read = 1, 0
  while ends[at] do
    if at > read then
      read_ends(at)
      read = #ends
    end
    note_end(unpack(ends[at], 1, 5))
    at = at + 1
  end
  ends = {}
  tell_all()
  for queue, ids in pairs(fallen) do add_later(queue, ids) end
  fallen = {}
  keep_nodes()
  for id, number in pairs(dropped) do
    local its = flow_of(id)
    if its then
      its.here, its.is_changed = its.here - number, true
      trim_flow_jobs(its, number)
    end
  end
  dropped = {}
  for _, its in ipairs(flow_list) do
    if its.is_changed then write_flow(its) end
  end
end
table.insert(endings, 1, end_flows)

-- Delete flows that ended before a moment and have no job left.
function clear_flows(before, limit)
  end_flows()
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'flow-over', '-inf', format('%.0f', before), 'LIMIT', 0, limit)) do
    call('HDEL', P .. 'flows', id)
    call('HDEL', P .. 'followers', '1' .. id, '2' .. id)
    call('UNLINK', P .. 'nodes:' .. id, flow_jobs_key(id))
    call('ZREM', P .. 'flow-over', id)
    call('ZREM', P .. 'flow-list', id)
  end
end
