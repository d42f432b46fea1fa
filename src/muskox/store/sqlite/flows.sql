-- The statements about flows and batches; see migrations/0006.sql for the tables and statements.sql for the words.

-- name: add_flow
INSERT INTO muskox_flows (name, kind, open, added, completed_job, settled_job)
VALUES (:name, :kind, :open, :now, :completed, :settled)
ON CONFLICT (name) DO NOTHING;

-- name: flow_by_name
SELECT id, name, kind, open, stopped FROM muskox_flows WHERE name = :name;

-- name: flow_by_id
SELECT id, name, kind, open, stopped FROM muskox_flows WHERE id = :flow;

-- name: grow_flow
UPDATE muskox_flows SET total = total + :added, open = open AND :open WHERE id = :flow;

-- name: stop_flow
UPDATE muskox_flows SET open = 0, stopped = 1 WHERE id = :flow;

-- name: go_on_with_flow
UPDATE muskox_flows SET stopped = 0 WHERE id = :flow;

-- name: row_of
SELECT muskox_jobs.seq, muskox_jobs.flow, muskox_jobs.node
FROM muskox_queues CROSS JOIN muskox_jobs ON muskox_jobs.queue = muskox_queues.id AND muskox_jobs.id = :id
WHERE muskox_queues.name = :queue;

-- name: add_node
INSERT INTO muskox_nodes (flow, seq, queue, job, delay)
SELECT :flow, seq, queue, id, :delay FROM muskox_jobs WHERE seq = :seq;

-- name: tie
UPDATE muskox_jobs SET node = :node, waits = :waits WHERE seq = :seq;

-- name: add_edge
INSERT INTO muskox_edges (child, place, parent, name, on_failure)
VALUES (:child, (SELECT count(*) FROM muskox_edges WHERE child = :child), :parent, :name, :on_failure);

-- name: find_node
-- The latest of a job in a flow, and how it ended.
SELECT muskox_nodes.id, muskox_nodes.state, muskox_nodes.failure
FROM muskox_queues JOIN muskox_nodes ON muskox_nodes.queue = muskox_queues.id
WHERE muskox_queues.name = :queue AND muskox_nodes.flow = :flow AND muskox_nodes.job = :id
ORDER BY muskox_nodes.id DESC
LIMIT 1;

-- name: blocked_by
-- The blocked children of a node, and what its failure means to them.
SELECT muskox_jobs.seq, muskox_edges.child, muskox_edges.on_failure
FROM muskox_edges
CROSS JOIN muskox_nodes ON muskox_nodes.id = muskox_edges.child
CROSS JOIN muskox_jobs ON muskox_jobs.seq = muskox_nodes.seq AND muskox_jobs.node = muskox_nodes.id
WHERE muskox_edges.parent = :node AND muskox_jobs.waits IS NOT NULL;

-- name: members
-- Those of the jobs in :seqs that are in a flow and whether they have ended is as :ended says.
SELECT muskox_jobs.seq, muskox_jobs.flow, muskox_jobs.node, muskox_jobs.state
FROM json_each(:seqs) AS wanted CROSS JOIN muskox_jobs ON muskox_jobs.seq = wanted.value
WHERE muskox_jobs.flow IS NOT NULL AND (muskox_jobs.state >= 4) = :ended;

-- name: count_ends
UPDATE muskox_flows
SET completed = completed + :completed, failed = failed + :failed, cancelled = cancelled + :cancelled
WHERE id = :flow;

-- name: count_back
-- Jobs of a flow run again: it has not ended.
UPDATE muskox_flows
SET failed = failed - :failed, cancelled = cancelled - :cancelled, ended = NULL, look = NULL
WHERE id = :flow;

-- name: write_outcomes
-- How the jobs of nodes ended, for their children.
UPDATE muskox_nodes
SET state = muskox_jobs.state, failure = muskox_jobs.failure,
    result = CASE WHEN muskox_jobs.state = 4 THEN muskox_jobs.result END
FROM muskox_jobs
WHERE muskox_jobs.seq IN (SELECT value FROM json_each(:seqs)) AND muskox_nodes.id = muskox_jobs.node;

-- name: write_removals
UPDATE muskox_nodes SET state = 6, failure = NULL, result = NULL WHERE id IN (SELECT value FROM json_each(:nodes));

-- name: forget_outcomes
UPDATE muskox_nodes SET state = NULL, failure = NULL, result = NULL WHERE id IN (SELECT value FROM json_each(:nodes));

-- name: children_of
-- The blocked children of nodes that have ended, one row for each pair.
SELECT muskox_jobs.seq, muskox_jobs.waits, muskox_edges.on_failure, parent.state, parent.queue, parent.job, parent.failure,
       muskox_flows.stopped
FROM json_each(:nodes) AS ended
CROSS JOIN muskox_nodes AS parent ON parent.id = ended.value
CROSS JOIN muskox_edges ON muskox_edges.parent = parent.id
CROSS JOIN muskox_nodes AS child ON child.id = muskox_edges.child
CROSS JOIN muskox_jobs ON muskox_jobs.seq = child.seq AND muskox_jobs.node = child.id
CROSS JOIN muskox_flows ON muskox_flows.id = child.flow
WHERE muskox_jobs.waits IS NOT NULL;

-- name: wait_less
-- :changes is [[seq, by how many], …]; negative for more.
UPDATE muskox_jobs
SET waits = waits - json_extract(change.value, '$[1]')
FROM json_each(:changes) AS change
WHERE muskox_jobs.seq = json_extract(change.value, '$[0]');

-- name: freed
-- Blocked jobs whose parents have all ended.
SELECT muskox_jobs.seq, muskox_jobs.id, muskox_jobs.lane, muskox_jobs.attempt, muskox_nodes.delay,
       muskox_jobs.key IS NOT NULL
FROM json_each(:seqs) AS wanted
CROSS JOIN muskox_jobs ON muskox_jobs.seq = wanted.value
CROSS JOIN muskox_nodes ON muskox_nodes.id = muskox_jobs.node;

-- name: free
-- :moves is [[seq, delay], …]. One with a key is blocked until it has joined its line.
UPDATE muskox_jobs
SET waits = NULL,
    state = CASE WHEN json_extract(move.value, '$[1]') > 0 THEN 1 WHEN muskox_jobs.key IS NULL THEN 0 ELSE 2 END, arrival = :now + json_extract(move.value, '$[1]'),
    due = CASE WHEN json_extract(move.value, '$[1]') > 0 THEN :now + json_extract(move.value, '$[1]') END
FROM json_each(:moves) AS move
WHERE muskox_jobs.seq = json_extract(move.value, '$[0]');

-- name: fall
-- Blocked jobs end because of a parent: :moves is [[seq, state, failure], …].
UPDATE muskox_jobs
SET waits = NULL, state = json_extract(move.value, '$[1]'), ended = :now, failure = json_extract(move.value, '$[2]')
FROM json_each(:moves) AS move
WHERE muskox_jobs.seq = json_extract(move.value, '$[0]')
RETURNING muskox_jobs.seq, muskox_jobs.id, muskox_jobs.lane, muskox_jobs.attempt, muskox_jobs.state, muskox_jobs.failure;

-- name: unended_parents
-- How many parents of nodes have not ended, by the rows of their jobs; none is left out.
SELECT muskox_jobs.seq, count(*)
FROM json_each(:nodes) AS wanted
CROSS JOIN muskox_edges ON muskox_edges.child = wanted.value
CROSS JOIN muskox_nodes AS parent ON parent.id = muskox_edges.parent
CROSS JOIN muskox_nodes AS child ON child.id = wanted.value
CROSS JOIN muskox_jobs ON muskox_jobs.seq = child.seq AND muskox_jobs.node = child.id
WHERE parent.state IS NULL
GROUP BY muskox_jobs.seq;

-- name: block_again
-- :waits is [[seq, how many], …].
UPDATE muskox_jobs
SET state = 2, waits = json_extract(its.value, '$[1]')
FROM json_each(:waits) AS its
WHERE muskox_jobs.seq = json_extract(its.value, '$[0]');

-- name: end_flows
-- Flows that are closed and whose jobs have all ended.
UPDATE muskox_flows
SET ended = :now, look = :look
WHERE id IN (SELECT value FROM json_each(:flows)) AND open = 0 AND ended IS NULL AND total = completed + failed + cancelled
RETURNING id, total = completed, completed_job, settled_job, completed_added, settled_added;

-- name: note_followers
UPDATE muskox_flows SET settled_added = 1, completed_added = completed_added OR :completed WHERE id = :flow;

-- name: unended_jobs
-- Blocked ones first in a flow, so that none of them fails because of another that is cancelled before.
SELECT seq, id, lane, state, attempt
FROM muskox_jobs
WHERE flow = :flow AND ended IS NULL
ORDER BY waits IS NULL, seq
LIMIT :limit;

-- name: unended_batch_jobs
SELECT seq, id, lane, state, attempt FROM muskox_jobs WHERE flow = :flow AND ended IS NULL ORDER BY seq LIMIT :limit;

-- name: failed_jobs
SELECT seq, id, lane, state, attempt
FROM muskox_jobs
WHERE flow = :flow AND ended IS NOT NULL AND state > 4
ORDER BY seq
LIMIT :limit;

-- name: flow_records
SELECT name, kind, open, added, total, completed, failed, cancelled, ended, completed_job, settled_job, completed_added,
       settled_added
FROM json_each(:names) AS wanted CROSS JOIN muskox_flows ON muskox_flows.name = wanted.value
ORDER BY wanted.key;

-- name: flow_record_page
SELECT name, kind, open, added, total, completed, failed, cancelled, ended, completed_job, settled_job, completed_added,
       settled_added, id
FROM muskox_flows
WHERE id < :before
ORDER BY id DESC
LIMIT :limit;

-- name: unended_record_page
SELECT name, kind, open, added, total, completed, failed, cancelled, ended, completed_job, settled_job, completed_added,
       settled_added, id
FROM muskox_flows
WHERE id < :before AND ended IS NULL
ORDER BY id DESC
LIMIT :limit;

-- name: flow_page
-- In the order of adding: those that have not ended and those that have, each along its index.
SELECT seq, state FROM (
    SELECT * FROM (
        SELECT seq, state FROM muskox_jobs WHERE flow = :flow AND ended IS NULL AND seq > :after ORDER BY seq LIMIT :limit
    )
    UNION ALL
    SELECT * FROM (
        SELECT seq, state FROM muskox_jobs WHERE flow = :flow AND ended IS NOT NULL AND seq > :after ORDER BY seq LIMIT :limit
    )
)
ORDER BY seq
LIMIT :limit;

-- name: parents
SELECT muskox_edges.name, other.name, parent.job, muskox_edges.on_failure, COALESCE(parent.state, its.state),
       parent.result, parent.failure
FROM muskox_queues
CROSS JOIN muskox_jobs ON muskox_jobs.queue = muskox_queues.id AND muskox_jobs.id = :id
CROSS JOIN muskox_edges ON muskox_edges.child = muskox_jobs.node
CROSS JOIN muskox_nodes AS parent ON parent.id = muskox_edges.parent
JOIN muskox_queues AS other ON other.id = parent.queue
LEFT JOIN muskox_jobs AS its ON its.seq = parent.seq AND its.node = parent.id
WHERE muskox_queues.name = :queue AND (NOT :unended OR parent.state IS NULL)
ORDER BY muskox_edges.place
LIMIT :limit;

-- name: flows_to_look_at
SELECT id, EXISTS (SELECT 1 FROM muskox_jobs WHERE flow = muskox_flows.id AND ended IS NOT NULL)
FROM muskox_flows
WHERE look <= :now
ORDER BY look
LIMIT :limit;

-- name: look_later
UPDATE muskox_flows SET look = :look WHERE id IN (SELECT value FROM json_each(:flows));

-- name: remove_edges
DELETE FROM muskox_edges
WHERE child IN (SELECT id FROM muskox_nodes WHERE flow IN (SELECT value FROM json_each(:flows)));

-- name: remove_nodes
DELETE FROM muskox_nodes WHERE flow IN (SELECT value FROM json_each(:flows));

-- name: remove_flows
DELETE FROM muskox_flows WHERE id IN (SELECT value FROM json_each(:flows));

-- name: audit_flow_figures
-- A flow whose jobs that have not ended are not as many as its figures say.
SELECT muskox_flows.name, muskox_flows.total - muskox_flows.completed - muskox_flows.failed - muskox_flows.cancelled AS said,
       (SELECT count(*) FROM muskox_jobs WHERE flow = muskox_flows.id AND ended IS NULL) AS found
FROM muskox_flows
WHERE said <> found;

-- name: audit_flow_ends
SELECT name FROM muskox_flows
WHERE (ended IS NOT NULL) <> (open = 0 AND total = completed + failed + cancelled)
   OR (ended IS NOT NULL) <> (look IS NOT NULL)
   OR (ended IS NOT NULL AND settled_added = 0)
   OR (ended IS NOT NULL AND total = completed AND completed_added = 0);

-- name: audit_waits
-- Blocked jobs whose number of parents that have not ended is not as it says.
SELECT muskox_queues.name, muskox_jobs.id, muskox_jobs.waits, (
           SELECT count(*)
           FROM muskox_edges JOIN muskox_nodes ON muskox_nodes.id = muskox_edges.parent
           WHERE muskox_edges.child = muskox_jobs.node AND muskox_nodes.state IS NULL
       ) AS found
FROM muskox_jobs JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
WHERE muskox_jobs.waits IS NOT NULL AND (muskox_jobs.state <> 2 OR muskox_jobs.waits < 1 OR muskox_jobs.waits <> found);

-- name: audit_members
SELECT muskox_queues.name, muskox_jobs.id
FROM muskox_jobs
JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
LEFT JOIN muskox_flows ON muskox_flows.id = muskox_jobs.flow
LEFT JOIN muskox_nodes ON muskox_nodes.id = muskox_jobs.node
WHERE (muskox_jobs.flow IS NOT NULL AND muskox_flows.id IS NULL)
   OR (muskox_flows.id IS NOT NULL AND (muskox_flows.kind = 0) <> (muskox_nodes.id IS NOT NULL))
   OR (muskox_nodes.id IS NOT NULL AND (muskox_nodes.flow <> muskox_jobs.flow OR muskox_nodes.seq <> muskox_jobs.seq
       OR muskox_nodes.queue <> muskox_jobs.queue OR muskox_nodes.job <> muskox_jobs.id
       OR muskox_nodes.state IS NOT (CASE WHEN muskox_jobs.state >= 4 THEN muskox_jobs.state END)));

-- name: audit_nodes
-- Nodes that have not ended and whose job is not there, and edges and nodes of nothing.
SELECT 'a node that has not ended and has no job', muskox_nodes.job
FROM muskox_nodes LEFT JOIN muskox_jobs ON muskox_jobs.seq = muskox_nodes.seq AND muskox_jobs.node = muskox_nodes.id
WHERE muskox_nodes.state IS NULL AND muskox_jobs.seq IS NULL
UNION ALL
SELECT 'a node of no flow', job FROM muskox_nodes WHERE flow NOT IN (SELECT id FROM muskox_flows)
UNION ALL
SELECT 'an edge of no node', name FROM muskox_edges
WHERE child NOT IN (SELECT id FROM muskox_nodes) OR parent NOT IN (SELECT id FROM muskox_nodes);
