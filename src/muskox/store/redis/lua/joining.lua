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
  local its, new, known = nodes_of(flow.id), {}, {}
  each_job(groups, function(number, group, place)
    local queue, id = group[1], group[8][place]
    local name = node_name(queue, id)
    for _, wait in ipairs(waits and waits[number] or {}) do
      local parent = node_name(wait[1], wait[2])
      if known[parent] == nil and not new[parent] then known[parent] = number_in(its, wait[1], wait[2]) or false end
      if not new[parent] and not known[parent] then
        missing = missing or { 'parent', number, wait[1], wait[2] }
      end
    end
    if not new[name] and call('HEXISTS', P .. 'jobs:' .. queue, id) == 0 then
      new[name] = true
      closed = closed or not flow.may_grow
    end
  end)
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

-- --- edges ----------------------------------------------------------------------------

local edge_fields = {}

local function keep_edges(its)
  for first = 1, #edge_fields, 2 * CHUNK do
    call('HSET', its.key, unpack(edge_fields, first, math.min(first + 2 * CHUNK - 1, #edge_fields)))
  end
  edge_fields = {}
end

local function put_field(its, field, value)
  edge_fields[#edge_fields + 1] = field
  edge_fields[#edge_fields + 1] = value
  if #edge_fields >= 2 * CHUNK then keep_edges(its) end
end

local function tie(its, child, parent, name, meaning)
  child.parents, parent.children = child.parents + 1, parent.children + 1
  put_field(its, 'p' .. child.number .. ':' .. child.parents, pack({ parent.number, name, meaning }))
  put_field(its, 'c' .. parent.number .. ':' .. parent.children, pack({ child.number, meaning }))
  change_node(its, child)
  change_node(its, parent)
end

-- --- adding ---------------------------------------------------------------------------

-- Make the node of a new job, for which those wait too that wait for the job whose run adds it.
local function add_node(flow, its, queue, id, delay, dependents)
  flow.numbers = flow.numbers + 1
  local node = {
    number = flow.numbers, queue = queue, id = id, delay = math.max(0, delay), state = '', parents = 0, children = 0,
  }
  its.by_number[node.number] = node
  its.by_name[node_name(queue, id)] = node
  change_node(its, node)
  put_field(its, 'i' .. node_name(queue, id), node.number)
  for _, dependent in ipairs(dependents) do
    tie(its, dependent[1], node, long(id), dependent[2])
    call('HINCRBY', its.key, 'w' .. dependent[1].number, 1)
  end
  return node
end

-- Write the record of a job that is blocked by its parents.
local function put_behind(flow, its, node, group, place, unended, is_told)
  local queue, name = group[1], group[2]
  local head = { name, group[3], now, group[5], group[6], group[7] }
  if group[10] then head[KEY] = group[10][place][1] end
  head[FLOW] = flow.id
  call('HSET', P .. 'jobs:' .. queue, node.id, 'B' .. BEHIND .. middle(write_head(head), '') .. group[9][place])
  wait_behind(its, node, unended, now)
  count(queue, name, nil, 'B', 1)
  know_queue(queue)
  if is_told then
    head[ATTEMPT] = 0
    tell_later(queue, 'blocked', node.id, head)
  end
end

-- Add one job that has parents; gives the failure when it cannot go on because of one of them.
local function add_child(flow, its, group, place, parents, dependents, answer)
  local queue, id, unended, failure = group[1], group[8][place], 0, nil
  local found = {}
  for i, wait in ipairs(parents) do
    local parent = its.by_name[node_name(wait[1], wait[2])] or node_in(its, number_in(its, wait[1], wait[2]))
    found[i] = parent
    if parent.state == '' then
      unended = unended + 1
    elseif parent.state ~= 'C' and wait[4] == 'fail' and not failure then
      local kept = call('HGET', its.key, 'o' .. parent.number)
      failure = failure_by(parent, parent.state, kept and unpack_text(kept)[2] or '', false)
    end
  end
  if unended == 0 and not failure then add_group(slice(group, place, place), 0, {}, {}, { flow = flow.id, ids = {} }) end
  local node = add_node(flow, its, queue, id, group[4], dependents)
  for i, wait in ipairs(parents) do tie(its, node, found[i], wait[3], wait[4]) end
  if unended > 0 or failure then
    put_behind(flow, its, node, group, place, math.max(1, unended), not failure)
    expire_later(queue, group[7], { id }, now)
  end
  answer.fresh[#answer.fresh + 1] = node
  return node, failure
end

-- Add those jobs of a group from `first` to `last` that have no parents.
local function add_free(flow, its, group, first, last, number, dependents, answer)
  local part = first == 1 and last == #group[8] and group or slice(group, first, last)
  local joins = { flow = flow.id, ids = {} }
  add_group(part, number, answer.known, answer.held, joins)
  local names = {}
  for i, id in ipairs(joins.ids) do
    names[i] = node_name(group[1], id)
    if its then add_node(flow, its, group[1], id, group[4], dependents) end
  end
  return names
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
local function join_group(flow, its, group, number, waits, dependents, answer, falls)
  local size, place = #group[8], 1
  while place <= size do
    local last = place
    while last < size and not waits[number + last + 1] and not waits[number + place] do last = last + 1 end
    if not waits[number + place] then
      note_joined(flow, add_free(flow, its, group, place, last, number + place - 1, dependents, answer))
    else
      local v = call('HGET', P .. 'jobs:' .. group[1], group[8][place])
      if v then
        answer.known[#answer.known + 1], answer.known[#answer.known + 2] = number + place, v
      else
        local node, failure = add_child(flow, its, group, place, waits[number + place], dependents, answer)
        note_joined(flow, { node_name(node.queue, node.id) })
        node.place = number + place
        if failure then falls[#falls + 1] = { node, failure } end
      end
    end
    place = last + 1
  end
end

-- Add all jobs; gives the answer of the steps that do: now, numbers of those that are blocked, number and record of each
-- whose id was known, number and record of each new one that has parents.
function join(flow, groups, waits, dependents)
  local answer, number, falls = { known = {}, held = {}, fresh = {} }, 0, {}
  local its = not flow.is_batch and nodes_of(flow.id) or nil
  if its then its.by_name = {} end
  for _, group in ipairs(groups) do
    if its and (waits or #dependents > 0) then
      join_group(flow, its, group, number, waits or {}, dependents, answer, falls)
    else
      note_joined(flow, add_free(flow, its, group, 1, #group[8], number, dependents, answer))
    end
    number = number + #group[8]
  end
  if its then keep_edges(its) end
  for _, one in ipairs(falls) do fall(its, one[1], one[2]) end
  end_flows()
  local fresh = {}
  for _, node in ipairs(answer.fresh) do
    fresh[#fresh + 1], fresh[#fresh + 2] = node.place, call('HGET', P .. 'jobs:' .. node.queue, node.id)
  end
  return { now, answer.held, answer.known, fresh }
end
