-- joining.lua · how jobs are added to a flow or batch; part of the steps that do
-- gives  refuse, join
--
-- Jobs come in groups as add.lua has them; beside them, by the number of each (from 1), its parents or false: queue, id,
-- name, what a failure means.

local function node_name(queue, id)
  return queue .. ':' .. id
end

-- Calls `each` with the number, group and place in it of every job.
local function each_job(groups, each)
  local number = 0
  for _, group in ipairs(groups) do
    for place in ipairs(group[8]) do
      number = number + 1
      each(number, group, place)
    end
  end
end

-- What is wrong with these jobs in that flow, as an answer; nil where nothing is.
function refuse(flow, groups, waits)
  local closed, missing
  if flow.is_batch then
    if waits then return { 'batch' } end
    if flow.may_grow then return nil end
  end
  local its, new = nodes_of(flow.id), {}
  each_job(groups, function(number, group, place)
    local queue, id = group[1], group[8][place]
    local name = node_name(queue, id)
    for _, wait in ipairs(waits and waits[number] or {}) do
      local parent = node_name(wait[1], wait[2])
      if not new[parent] and not number_in(its, wait[1], wait[2]) then
        missing = missing or { 'parent', number, wait[1], wait[2] }
      end
    end
    if not new[name] and call('HEXISTS', P .. 'jobs:' .. queue, id) == 0 then
      new[name] = true
      closed = closed or not flow.may_grow
    end
  end)
  flow.is_new = new
  return missing or (closed and { 'closed' }) or nil
end

-- A part of a group.
local function slice(group, first, last)
  local part = {}
  for place = 1, 7 do part[place] = group[place] end
  for place = 8, 10 do
    local its = group[place]
    part[place] = its and {}
    for i = first, its and last or 0 do part[place][i - first + 1] = its[i] end
  end
  return part
end

-- --- writing together -----------------------------------------------------------------

local fields_of, members_of, queues_known = {}, {}, {}

local function put_all(command, kept)
  for key, its in pairs(kept) do
    for first = 1, #its, 2 * CHUNK do
      call(command, key, unpack(its, first, math.min(first + 2 * CHUNK - 1, #its)))
    end
  end
end

-- Write what was to be written together.
local function put_together()
  put_all('HSET', fields_of)
  put_all('ZADD', members_of)
  fields_of, members_of = {}, {}
end

local function put_later(kept, key, first, second)
  local its = kept[key]
  if not its then its = {}; kept[key] = its end
  local at = #its
  its[at + 1], its[at + 2] = first, second
end

local function tie(its, child, parent, name, meaning)
  child.parents, parent.children = child.parents + 1, parent.children + 1
  put_later(fields_of, its.key, 'p' .. child.number .. ':' .. child.parents, pack({ parent.number, name, meaning }))
  put_later(fields_of, its.key, 'c' .. parent.number .. ':' .. parent.children, pack({ child.number, meaning }))
  change_node(its, child)
  change_node(its, parent)
end

-- --- adding ---------------------------------------------------------------------------

-- Make the node of a new job, for which those wait too that wait for the job whose run adds it.
local function add_node(flow, its, queue, id, delay, dependents)
  local name = node_name(queue, id)
  flow.numbers = flow.numbers + 1
  local node = {
    number = flow.numbers, queue = queue, id = id, delay = math.max(0, delay), state = '', parents = 0, children = 0,
  }
  its.by_number[node.number], its.by_name[name], its.numbers[name] = node, node, node.number
  change_node(its, node)
  put_later(fields_of, its.key, 'i' .. name, node.number)
  for _, dependent in ipairs(dependents) do
    tie(its, dependent[1], node, long(id), dependent[2])
    call('HINCRBY', its.key, 'w' .. dependent[1].number, 1)
  end
  return node
end

-- Write the record of a job that is blocked by its parents.
local function put_behind(flow, its, node, group, place, unended)
  local queue, key = group[1], group[10] and group[10][place][1] or ''
  if not group.behind then
    group.behind = write_head({ group[2], group[3], now, group[5], group[6], group[7], [FLOW] = flow.id })
  end
  node.record = 'B' .. BEHIND .. middle(mark_key(key) .. group.behind, '') .. group[9][place]
  put_later(fields_of, P .. 'jobs:' .. queue, node.id, node.record)
  put_later(fields_of, its.key, 'w' .. node.number, unended)
  put_later(members_of, P .. 'blocked:' .. queue, now, node.id)
  count(queue, group[2], nil, 'B', 1)
  if not queues_known[queue] then know_queue(queue) end
  queues_known[queue] = true
  expire_later(queue, group[7], { node.id }, now)
end

-- The parents of a new job, how many of them have not ended, and the failure when it cannot go on because of one.
local function look_at_parents(its, waits)
  local parents, unended, failure = {}, 0, nil
  for i, wait in ipairs(waits) do
    local parent = its.by_name[node_name(wait[1], wait[2])] or node_in(its, number_in(its, wait[1], wait[2]))
    parents[i] = parent
    if parent.state == '' then
      unended = unended + 1
    elseif parent.state ~= 'C' and wait[4] == 'fail' and not failure then
      local kept = call('HGET', its.key, 'o' .. parent.number)
      failure = failure_by(parent, parent.state, kept and unpack_text(kept)[2] or '', false)
    end
  end
  return parents, unended, failure
end

-- Add one job that has parents.
local function add_child(flow, its, group, place, waits, dependents, answer)
  local queue, id = group[1], group[8][place]
  local parents, unended, failure = look_at_parents(its, waits)
  if unended == 0 and not failure then add_group(slice(group, place, place), 0, {}, {}, { flow = flow.id, ids = {} }) end
  local node = add_node(flow, its, queue, id, group[4], dependents)
  for i, wait in ipairs(waits) do tie(its, node, parents[i], wait[3], wait[4]) end
  if failure then
    put_behind(flow, its, node, group, place, math.max(1, unended))
    answer.falls[#answer.falls + 1] = { node, failure }
  elseif unended > 0 then
    put_behind(flow, its, node, group, place, unended)
    tell_later(queue, 'blocked', id, { group[2], [ATTEMPT] = 0 })
  end
  answer.fresh[#answer.fresh + 1] = node
  answer.names[#answer.names + 1] = node_name(queue, id)
  return node
end

-- Add those jobs of a group from `first` to `last` that have no parents.
local function add_free(flow, its, group, first, last, number, dependents, answer)
  local part = first == 1 and last == #group[8] and group or slice(group, first, last)
  local joins = { flow = flow.id, ids = {} }
  add_group(part, number, answer.known, answer.held, joins)
  for _, id in ipairs(joins.ids) do
    answer.names[#answer.names + 1] = node_name(group[1], id)
    if its then add_node(flow, its, group[1], id, group[4], dependents) end
  end
end

local function note_joined(flow, names)
  local added = seven(now)
  for first = 1, #names, CHUNK do
    local some = {}
    for i = first, math.min(first + CHUNK - 1, #names) do some[#some + 1] = added .. names[i] end
    call('RPUSH', flow_jobs_key(flow.id), unpack(some))
  end
  flow.total, flow.here, flow.is_changed = flow.total + #names, flow.here + #names, true
end

-- Add the jobs of a group to a flow of kind flow; `number` is how many came before.
local function join_group(flow, its, group, number, waits, dependents, answer)
  local size, place = #group[8], 1
  while place <= size do
    local last = place
    while last < size and not waits[number + last + 1] and not waits[number + place] do last = last + 1 end
    local name = node_name(group[1], group[8][place])
    if not waits[number + place] then
      add_free(flow, its, group, place, last, number + place - 1, dependents, answer)
    elseif flow.is_new[name] and not its.by_name[name] then
      add_child(flow, its, group, place, waits[number + place], dependents, answer).place = number + place
    else
      put_together()
      answer.known[#answer.known + 1] = number + place
      answer.known[#answer.known + 1] = call('HGET', P .. 'jobs:' .. group[1], group[8][place])
    end
    place = last + 1
  end
end

-- Add all jobs; gives the answer of the steps that do: now, numbers of those that are blocked, number and record of each
-- whose id was known, number and record of each new one that has parents.
function join(flow, groups, waits, dependents)
  local answer, number = { known = {}, held = {}, fresh = {}, falls = {}, names = {} }, 0
  local its = not flow.is_batch and nodes_of(flow.id) or nil
  if its then its.by_name = {} end
  for _, group in ipairs(groups) do
    if its and (waits or #dependents > 0) then
      join_group(flow, its, group, number, waits or {}, dependents, answer)
    else
      add_free(flow, its, group, 1, #group[8], number, dependents, answer)
    end
    number = number + #group[8]
  end
  note_joined(flow, answer.names)
  put_together()
  for _, one in ipairs(answer.falls) do fall(its, one[1], one[2]) end
  end_flows()
  local fresh = {}
  for _, node in ipairs(answer.fresh) do
    local record = #answer.falls == 0 and node.record or call('HGET', P .. 'jobs:' .. node.queue, node.id)
    fresh[#fresh + 1], fresh[#fresh + 2] = node.place, record
  end
  return { now, answer.held, answer.known, fresh }
end
