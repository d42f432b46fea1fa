-- nodes.lua · who waits for whom in a flow, and how parents ended; part of steps that concern flows
-- gives  BEHIND, nodes_of, number_in, node_in, change_node, keep_nodes, each_edge, unended_parents, leave_parents, leave_behind
-- gives  parents_of, read_members
--
-- A hash per flow of kind flow. The jobs that are added to it are numbered; of a job that was removed and added again
-- the latest number counts. Of each number N it has
--   i + queue:id      the number
--   n + N             the node, a msgpack array: queue, id, delay in µs, state at its end or "", parents, children
--   p + N : place     a parent: its number, name, what its failure means
--   c + N : place     a child: its number, what a failure of N means to it
--   o + N             how it ended: result and failure, as text; missing where there is neither
--   w + N             how many parents have not ended; there only while the job is blocked by them
-- The record of a job that is blocked by parents has the stamp BEHIND, and its id is in
-- `blocked` of its queue, as those are that are blocked by their key.

BEHIND = '\0\0\0\0\0\0\0'
local all_nodes = {}

-- The nodes of a flow, of which those that a step has to do with are read once and kept at its end.
function nodes_of(flow)
  local its = all_nodes[flow]
  if not its then
    its = { flow = flow, key = P .. 'nodes:' .. flow, by_number = {}, numbers = {}, changed = {} }
    all_nodes[flow] = its
  end
  return its
end

local function read_nodes(its, numbers)
  local fields, unknown = {}, {}
  for _, number in ipairs(numbers) do
    if not its.by_number[number] then
      unknown[#unknown + 1], fields[#fields + 1] = number, 'n' .. number
    end
  end
  if #fields == 0 then return end
  for i, kept in ipairs(call('HMGET', its.key, unpack(fields))) do
    local queue, id, delay, state, parents, children = unpack(unpack_text(kept))
    its.by_number[unknown[i]] = {
      number = unknown[i], queue = queue, id = id, delay = delay, state = state, parents = parents, children = children,
    }
  end
end

-- Read the nodes of jobs, given as queue:id, together.
function read_members(its, names)
  for first = 1, #names, CHUNK do
    local fields, unknown, numbers = {}, {}, {}
    for i = first, math.min(first + CHUNK - 1, #names) do
      if its.numbers[names[i]] == nil then unknown[#unknown + 1], fields[#fields + 1] = names[i], 'i' .. names[i] end
    end
    for i, number in ipairs(#fields > 0 and call('HMGET', its.key, unpack(fields)) or {}) do
      its.numbers[unknown[i]] = number and tonumber(number)
      if number then numbers[#numbers + 1] = tonumber(number) end
    end
    read_nodes(its, numbers)
  end
end

-- The number of a job, nil where it is no node.
function number_in(its, queue, id)
  local name = queue .. ':' .. id
  read_members(its, { name })
  return its.numbers[name] or nil
end

function node_in(its, number)
  read_nodes(its, { number })
  return its.by_number[number]
end

function change_node(its, node)
  if not node.is_changed then
    node.is_changed = true
    its.changed[#its.changed + 1] = node
  end
end

function keep_nodes()
  for _, its in pairs(all_nodes) do
    for first = 1, #its.changed, CHUNK do
      local fields = {}
      for i = first, math.min(first + CHUNK - 1, #its.changed) do
        local node = its.changed[i]
        fields[#fields + 1] = 'n' .. node.number
        fields[#fields + 1] = pack({ node.queue, node.id, node.delay, node.state, node.parents, node.children })
        node.is_changed = false
      end
      call('HSET', its.key, unpack(fields))
    end
    its.changed = {}
  end
end

-- Calls `each` with the node of each parent (kind p) or child (kind c) of a node, in their order, and of a parent with name
-- and meaning, of a child with meaning and for how many parents it waits, if it does. `each` may give true to end it.
function each_edge(its, node, kind, each)
  local size = kind == 'p' and node.parents or node.children
  for first = 1, size, CHUNK do
    local fields, edges, numbers = {}, {}, {}
    for place = first, math.min(first + CHUNK - 1, size) do
      fields[#fields + 1] = kind .. node.number .. ':' .. place
    end
    for i, kept in ipairs(call('HMGET', its.key, unpack(fields))) do
      edges[i] = unpack_text(kept)
      numbers[i] = edges[i][1]
    end
    read_nodes(its, numbers)
    local waits = {}
    if kind == 'c' then
      for i, number in ipairs(numbers) do fields[i] = 'w' .. number end
      waits = call('HMGET', its.key, unpack(fields))
    end
    for i, edge in ipairs(edges) do
      if each(its.by_number[edge[1]], edge[2], edge[3] or waits[i]) then return end
    end
  end
end

-- How many parents of a node have not ended.
function unended_parents(its, node)
  local number = 0
  each_edge(its, node, 'p', function(parent)
    if parent.state == '' then number = number + 1 end
  end)
  return number
end

function leave_parents(its, node)
  call('HDEL', its.key, 'w' .. node.number)
  call('ZREM', P .. 'blocked:' .. node.queue, node.id)
end

-- A job that is blocked by its parents leaves that state by hand.
function leave_behind(queue, id, head)
  local its = nodes_of(head[FLOW])
  local number = number_in(its, queue, id)
  if number then call('HDEL', its.key, 'w' .. number) end
  call('ZREM', P .. 'blocked:' .. queue, id)
end

-- The parents of a job as they are now: name, queue, id, what a failure means, state, result, failure, one after the
-- other; `most` of them, of which `only_unended` leaves out those that have ended.
function parents_of(queue, id, head, only_unended, most)
  local found, number = {}, 0
  local its = head[FLOW] ~= '' and nodes_of(head[FLOW])
  local own = its and number_in(its, queue, id)
  if not own then return found end
  each_edge(its, node_in(its, own), 'p', function(parent, name, meaning)
    local state, result, failure = parent.state, '', ''
    if only_unended and state ~= '' then return end
    if state == '' then
      local v = call('HGET', P .. 'jobs:' .. parent.queue, parent.id)
      state = v and sub(v, 1, 1) or 'X'
    else
      local kept = call('HGET', its.key, 'o' .. parent.number)
      if kept then result, failure = unpack(unpack_text(kept)) end
    end
    for _, part in ipairs({ name, parent.queue, parent.id, meaning, state, result, failure }) do
      found[#found + 1] = part
    end
    number = number + 1
    return number >= most
  end)
  return found
end
