-- grow.lua · add jobs to a flow or batch, which is made if it is not there: all or none
-- needs  records
-- needs  lines
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
-- ASKED  flow: id, whether it is a batch, whether it stays open, and of each job that follows it (completed, settled)
--        queue and id, its group, its dedup rule or false, or else false; groups as add.lua has them; parents of each job
--        or false for none at all, see joining.lua
-- RETURNS  "added" and what `join` gives; else why nothing was added: "kind" when it is of another kind, "closed", "batch"
--          when jobs of one have parents, "parent" with number of the job, queue and id of a parent that is not in it

begin()
local said, groups, waits = unpack(ASKED)
local id, is_batch, is_open, completed, settled = unpack(said)

local its = flow_of(id)
if its and its.is_batch ~= is_batch then return { 'kind' } end
local is_new = not its
if is_new then
  its = {
    id = id, is_batch = is_batch, is_open = true, is_stopped = false, total = 0, C = 0, F = 0, X = 0, ended = 0, added = now,
    stamp = take_stamps(1), here = 0, trimmed = 0, cancel = 0, retry = 0, completed_added = false, settled_added = false,
    completed = completed and { completed[1], completed[2] }, settled = settled and { settled[1], settled[2] }, numbers = 0,
  }
end
its.may_grow = its.is_open
local why = refuse(its, groups, waits)
if why then return why end

if is_new then
  keep_flow(its)
  its.is_changed = true
  call('ZADD', P .. 'flow-list', its.stamp, id)
  call('ZADD', P .. 'flow-unended', its.stamp, id)
  for kind, follower in ipairs({ completed, settled }) do
    if follower then call('HSET', P .. 'followers', kind .. id, pack({ follower[3], follower[4] })) end
  end
end
if its.is_open and not is_open then its.is_open, its.is_changed = false, true end
local answer = join(its, groups, waits, {})
finish()
return { 'added', answer }
