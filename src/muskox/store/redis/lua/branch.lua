-- branch.lua · add jobs from inside a run to the flow of its job, if there is one: all or none
-- needs  records
-- needs  lines
-- needs  leases
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- needs  nodes
-- needs  flowing
-- needs  again
-- needs  joining
-- ASKED  queue, id, fence; groups as add.lua has them; parents of each job or false, see joining.lua
-- RETURNS  "lost"; "alone" where its job is in no flow, with the id of the flow "" or what grow.lua gives, with the flow

begin()
local queue, id, fence, groups, waits = unpack(ASKED)
local v = call('HGET', P .. 'jobs:' .. queue, id)
if not is_active_under(v, seven(fence)) then return { 'lost' } end
local head = read_head(select(3, open_record(v)))
local flow = head[FLOW] ~= '' and flow_of(head[FLOW])

if not flow then
  if waits then return { 'alone' } end
  local known, held, number = {}, {}, 0
  for _, group in ipairs(groups) do number = add_group(group, number, known, held) end
  finish()
  return { 'added', { now, held, known, {} }, '' }
end

flow.may_grow = true
local why = refuse(flow, groups, waits)
if why then return { why[1], why[2] or '', why[3] or '', why[4] or '', flow.id, flow.is_batch } end

-- Those that are blocked by the job, and what its failure means to them.
local dependents, its = {}, nodes_of(flow.id)
local number = not flow.is_batch and number_in(its, queue, id)
if number then
  each_edge(its, node_in(its, number), 'c', function(child, meaning, waits)
    if waits then dependents[#dependents + 1] = { child, meaning } end
  end)
end
local answer = join(flow, groups, waits, dependents)
finish()
return { 'added', answer, flow.id }
