-- The statements that only look; see statements.sql for the words.

-- name: page_waiting
SELECT seq, id, lane, state, attempt, priority, arrival
FROM muskox_jobs
WHERE lane = :lane AND state = 0
  AND (:first OR priority < :priority OR (priority = :priority AND (arrival, seq) > (:arrival, :seq)))
ORDER BY priority DESC, arrival, seq
LIMIT :limit;

-- name: page_delayed
-- The + keeps the planner from the index of ids, along which it would read and sort every job of the queue.
SELECT seq, id, lane, state, attempt, 0, due
FROM muskox_jobs
WHERE state = 1 AND +queue = :queue AND lane IN (SELECT value FROM json_each(:lanes))
  AND (:first OR (due, seq) > (:arrival, :seq))
ORDER BY due, seq
LIMIT :limit;

-- name: page_blocked
-- By when they came.
SELECT seq, id, lane, state, attempt, 0, arrival
FROM muskox_jobs
WHERE state = 2 AND queue = :queue AND lane IN (SELECT value FROM json_each(:lanes))
  AND (:first OR (arrival, seq) > (:arrival, :seq))
ORDER BY arrival, seq
LIMIT :limit;

-- name: page_active
-- By lease: the index of active jobs, whose number is bounded by the slots there are; the + keeps the planner to it.
SELECT seq, id, lane, state, attempt, 0, started
FROM muskox_jobs
WHERE state = 3 AND +queue = :queue AND lane IN (SELECT value FROM json_each(:lanes))
  AND (:first OR (started, seq) > (:arrival, :seq))
ORDER BY started, seq
LIMIT :limit;

-- name: page_ended
SELECT seq, id, lane, state, attempt, 0, ended
FROM muskox_jobs
WHERE queue = :queue AND state = :state AND ended IS NOT NULL AND lane IN (SELECT value FROM json_each(:lanes))
  AND (:first OR (ended, seq) < (:arrival, :seq))
ORDER BY ended DESC, seq DESC
LIMIT :limit;

-- name: stand
SELECT muskox_jobs.seq, muskox_jobs.queue, muskox_queues.paused, lease_until, priority, arrival
FROM muskox_queues CROSS JOIN muskox_jobs ON muskox_jobs.queue = muskox_queues.id AND muskox_jobs.id = :id
WHERE muskox_queues.name = :queue;

-- name: count_higher
-- Along the index of waiting jobs, lane by lane, until there are :most.
SELECT count(*) FROM (
    SELECT 1
    FROM json_each(:lanes) AS wanted CROSS JOIN muskox_jobs ON lane = wanted.value AND state = 0 AND priority > :priority
    LIMIT :most
);

-- name: count_earlier
SELECT count(*) FROM (
    SELECT 1
    FROM json_each(:lanes) AS wanted CROSS JOIN muskox_jobs ON lane = wanted.value AND state = 0 AND priority = :priority
        AND (arrival, seq) < (:arrival, :seq)
    LIMIT :most
);

-- name: logs
SELECT muskox_logs.number, muskox_logs.at, muskox_logs.text
FROM muskox_queues JOIN muskox_jobs ON muskox_jobs.queue = muskox_queues.id JOIN muskox_logs ON muskox_logs.job = muskox_jobs.seq
WHERE muskox_queues.name = :queue AND muskox_jobs.id = :id AND muskox_logs.number > :after
ORDER BY muskox_logs.number
LIMIT :limit;

-- name: counts
SELECT muskox_queues.name, muskox_queues.paused, muskox_lanes.name, muskox_lanes.id,
       waiting, delayed, blocked, active, completed, failed, cancelled, added
FROM muskox_queues LEFT JOIN muskox_lanes ON muskox_lanes.queue = muskox_queues.id
ORDER BY muskox_queues.id, muskox_lanes.id;

-- name: untold_counts
-- How many jobs of a lane are waiting and delayed that are not in its figures yet.
SELECT lane, sum(state = 0), sum(state = 1) FROM muskox_jobs WHERE seq > (SELECT told FROM muskox_meta) GROUP BY lane;

-- name: oldest_arrival
-- The oldest of a lane's waiting jobs, priority by priority along the index; at most 64 priorities.
WITH RECURSIVE levels (priority, depth) AS (
    SELECT min(priority), 1 FROM muskox_jobs WHERE lane = :lane AND state = 0
    UNION ALL
    SELECT (SELECT min(priority) FROM muskox_jobs WHERE lane = :lane AND state = 0 AND priority > levels.priority), depth + 1
    FROM levels
    WHERE levels.priority IS NOT NULL AND depth < 64
)
SELECT min((
    SELECT arrival FROM muskox_jobs
    WHERE lane = :lane AND state = 0 AND priority = levels.priority
    ORDER BY arrival
    LIMIT 1
))
FROM levels
WHERE priority IS NOT NULL;

-- name: read_events
-- From the record that holds :after + 1 on; :queue NULL means all queues.
SELECT muskox_events.first, muskox_events.size, muskox_queues.name, muskox_events.kind, muskox_events.at, muskox_events.body
FROM muskox_events JOIN muskox_queues ON muskox_queues.id = muskox_events.queue
WHERE muskox_events.first > COALESCE((SELECT max(first) FROM muskox_events WHERE first <= :after + 1), 0) - 1
  AND (:queue IS NULL OR muskox_queues.name = :queue)
ORDER BY muskox_events.first
LIMIT :limit;

-- name: first_event
-- And the next offset, and whether there are jobs of which is still to be told.
SELECT min(first), (SELECT event FROM muskox_meta),
       COALESCE((SELECT max(seq) FROM muskox_jobs) > (SELECT told FROM muskox_meta), FALSE)
FROM muskox_events;

-- name: open_queues
SELECT muskox_queues.name
FROM muskox_queues JOIN muskox_lanes ON muskox_lanes.queue = muskox_queues.id
WHERE muskox_queues.paused = 0
GROUP BY muskox_queues.id
HAVING sum(muskox_lanes.waiting) > 0
UNION
SELECT muskox_queues.name
FROM muskox_jobs CROSS JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
WHERE muskox_jobs.seq > (SELECT told FROM muskox_meta) AND muskox_jobs.state = 0 AND muskox_queues.paused = 0
UNION
SELECT muskox_queues.name
FROM muskox_queues
WHERE muskox_queues.paused = 0 AND muskox_queues.limited >= 2 AND EXISTS (
    SELECT 1 FROM muskox_keys WHERE muskox_keys.queue = muskox_queues.id AND muskox_keys.look_at IS NOT NULL
);

-- name: audit_counts
SELECT muskox_queues.name, muskox_lanes.name,
       muskox_lanes.waiting + COALESCE(sum(muskox_jobs.seq > muskox_meta.told AND muskox_jobs.state = 0), 0),
       muskox_lanes.delayed + COALESCE(sum(muskox_jobs.seq > muskox_meta.told AND muskox_jobs.state = 1), 0),
       muskox_lanes.blocked, muskox_lanes.active, muskox_lanes.completed,
       muskox_lanes.failed, muskox_lanes.cancelled, sum(muskox_jobs.state = 0), sum(muskox_jobs.state = 1), sum(muskox_jobs.state = 2),
       sum(muskox_jobs.state = 3), sum(muskox_jobs.state = 4), sum(muskox_jobs.state = 5), sum(muskox_jobs.state = 6)
FROM muskox_lanes JOIN muskox_queues ON muskox_queues.id = muskox_lanes.queue CROSS JOIN muskox_meta LEFT JOIN muskox_jobs ON muskox_jobs.lane = muskox_lanes.id
GROUP BY muskox_lanes.id;

-- name: audit_active
SELECT muskox_queues.name, muskox_jobs.id
FROM muskox_jobs JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
WHERE muskox_jobs.state = 3 AND (muskox_jobs.token IS NULL OR muskox_jobs.lease_until IS NULL OR muskox_jobs.attempt < 1);

-- name: audit_shape
SELECT muskox_queues.name, muskox_jobs.id, muskox_jobs.state
FROM muskox_jobs JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
WHERE (muskox_jobs.state = 1) <> (muskox_jobs.due IS NOT NULL) OR (muskox_jobs.state >= 4) <> (muskox_jobs.ended IS NOT NULL)
   OR muskox_jobs.state NOT BETWEEN 0 AND 6;

-- name: audit_lanes
SELECT muskox_jobs.id FROM muskox_jobs LEFT JOIN muskox_lanes ON muskox_lanes.id = muskox_jobs.lane WHERE muskox_lanes.id IS NULL OR muskox_lanes.queue <> muskox_jobs.queue;

-- name: audit_lines
SELECT DISTINCT muskox_logs.job FROM muskox_logs LEFT JOIN muskox_jobs ON muskox_jobs.seq = muskox_logs.job WHERE muskox_jobs.seq IS NULL;

-- name: integrity
PRAGMA integrity_check(20);
