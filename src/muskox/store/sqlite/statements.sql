-- The statements that move jobs; those that only look are in looks.sql. `seq` is the rowid of a job; states are numbered in migrations/0001.sql.
-- Lists of rows travel as one JSON text, so that a batch is one statement and the interpreter lock
-- is handed over once per batch and not once per row.

-- name: read_meta
-- And of the latest job its row, and the moment that it was given.
SELECT token, clock, event, turn, told, (SELECT max(seq) FROM muskox_jobs),
       (SELECT added FROM muskox_jobs WHERE seq = (SELECT max(seq) FROM muskox_jobs)), bounded
FROM muskox_meta;

-- name: lock_meta
-- Takes the write lock on somebody else's connection before anything is read.
UPDATE muskox_meta SET clock = max(clock, :now)
RETURNING token, clock, event, turn, told, (SELECT max(seq) FROM muskox_jobs),
    (SELECT added FROM muskox_jobs WHERE seq = (SELECT max(seq) FROM muskox_jobs)), bounded;

-- name: write_meta
UPDATE muskox_meta
SET token = ?, clock = ?, event = ?, turn = ?,
    told = COALESCE((SELECT max(seq) FROM muskox_jobs), 0);

-- name: shift_leases
-- The machine's clock was set back: leases are durations and move with it.
UPDATE muskox_jobs SET lease_until = lease_until - :jump WHERE state = 3;

-- name: add_queue
INSERT INTO muskox_queues (name) VALUES (:queue) ON CONFLICT (name) DO NOTHING;

-- name: add_lane
INSERT INTO muskox_lanes (queue, name)
SELECT id, :name FROM muskox_queues WHERE name = :queue
ON CONFLICT (queue, name) DO NOTHING;

-- name: find_lane
SELECT muskox_lanes.queue, muskox_lanes.id
FROM muskox_lanes JOIN muskox_queues ON muskox_queues.id = muskox_lanes.queue
WHERE muskox_queues.name = :queue AND muskox_lanes.name = :name;

-- name: find_queue
SELECT id, paused FROM muskox_queues WHERE name = :queue;

-- name: queue_names
SELECT id, name FROM muskox_queues;

-- name: count
UPDATE muskox_lanes
SET waiting = waiting + ?, delayed = delayed + ?, blocked = blocked + ?, active = active + ?,
    completed = completed + ?, failed = failed + ?, cancelled = cancelled + ?, added = added + ?
WHERE id = ?;

-- name: add_events
-- For one record; the values of others are put behind it.
INSERT INTO muskox_events (first, size, queue, kind, at, body) VALUES (?, ?, ?, ?, ?, ?);

-- name: add_jobs
-- :data_by_id is {id: data, …}; all else is the same for all of them. Known ids are left as they are.
INSERT INTO muskox_jobs (queue, lane, id, state, priority, arrival, due, attempts, max_stalls, added, flow, options, data)
SELECT :queue, :lane, key, :state, :priority, :arrival, :due, :attempts, :max_stalls, :now, :flow, :options, value
FROM json_each(:data_by_id)
WHERE TRUE
ON CONFLICT (queue, id) DO NOTHING;

-- name: add_jobs_with_keys
-- As add_jobs, but :jobs is [[id, data, key], …].
INSERT INTO muskox_jobs (queue, lane, id, state, priority, arrival, due, attempts, max_stalls, added, flow, options, data, key)
SELECT :queue, :lane, json_extract(job.value, '$[0]'), :state, :priority, :arrival, :due, :attempts, :max_stalls, :now, :flow,
       :options, json_extract(job.value, '$[1]'), json_extract(job.value, '$[2]')
FROM json_each(:jobs) AS job
WHERE TRUE
ON CONFLICT (queue, id) DO NOTHING;

-- name: add_job
INSERT INTO muskox_jobs (queue, lane, id, state, priority, arrival, due, attempts, max_stalls, added, flow, options, data, key)
VALUES (:queue, :lane, :id, :state, :priority, :arrival, :due, :attempts, :max_stalls, :now, :flow, :options, :data, :key)
ON CONFLICT (queue, id) DO NOTHING;

-- name: untold
-- The jobs after :told, in one text, as pick gives them.
SELECT json_group_array(json_array(seq, queue, lane, name, state, id, added))
FROM (
    SELECT muskox_jobs.seq, muskox_jobs.queue, muskox_jobs.lane, muskox_lanes.name, muskox_jobs.state, muskox_jobs.id, muskox_jobs.added
    FROM muskox_jobs CROSS JOIN muskox_lanes ON muskox_lanes.id = muskox_jobs.lane
    WHERE muskox_jobs.seq > :told
    ORDER BY muskox_jobs.seq
    LIMIT :limit
);

-- name: open_lanes
-- The lanes that have something to claim, of the queues in :queues that are not paused; and all of those that have keys.
SELECT muskox_lanes.id, muskox_queues.id, muskox_queues.name, muskox_lanes.name, muskox_lanes.waiting, muskox_queues.limited
FROM muskox_lanes JOIN muskox_queues ON muskox_queues.id = muskox_lanes.queue
WHERE muskox_queues.name IN (SELECT value FROM json_each(:queues)) AND muskox_queues.paused = 0
  AND (muskox_lanes.waiting > 0 OR muskox_queues.limited >= 2);

-- name: waiting_in
SELECT id, waiting FROM muskox_lanes WHERE queue = :queue;

-- name: pick
-- The next of a lane, in the order in which they are claimed, all in one text, [[lane, seq, …], …]; and its lowest
-- priority. The interpreter lock is let go of and asked for again with each row that is fetched, which costs more
-- than the text does.
SELECT json_group_array(json_array(
    lane, seq, id, priority, arrival, attempt, attempts, stalls, releases, added, options, data, progress, flow, line
)), (SELECT min(priority) FROM muskox_jobs WHERE lane = :lane AND state = 0)
FROM (
    SELECT lane, seq, id, priority, arrival, attempt, attempts, stalls, releases, added, options, data, progress, flow, line
    FROM muskox_jobs
    WHERE lane = :lane AND state = 0
    ORDER BY priority DESC, arrival, seq
    LIMIT :limit
);

-- name: pick_oldest
-- The job that has waited longest in a lane, if it arrived before :before: the first of each priority, found by
-- jumping along the index, at most 64 priorities from the lowest.
WITH RECURSIVE levels (priority, depth) AS (
    SELECT min(priority), 1 FROM muskox_jobs WHERE lane = :lane AND state = 0
    UNION ALL
    SELECT (SELECT min(priority) FROM muskox_jobs WHERE lane = :lane AND state = 0 AND priority > levels.priority), depth + 1
    FROM levels
    WHERE levels.priority IS NOT NULL AND depth < 64
)
SELECT lane, seq, id, priority, arrival, attempt, attempts, stalls, releases, added, options, data, progress, flow, line
FROM muskox_jobs
WHERE seq IN (
    SELECT (
        SELECT seq FROM muskox_jobs
        WHERE lane = :lane AND state = 0 AND priority = levels.priority
        ORDER BY arrival, seq
        LIMIT 1
    )
    FROM levels
    WHERE priority IS NOT NULL
) AND arrival <= :before
ORDER BY arrival, seq
LIMIT :limit;

-- name: claim
-- :seqs is [seq, …]; the tokens count up from :token in that order.
UPDATE muskox_jobs
SET state = 3, attempt = attempt + 1, token = :token + picked.key, lease_until = :until, worker = :worker,
    started = :now, due = NULL
FROM json_each(:seqs) AS picked
WHERE muskox_jobs.seq = picked.value;

-- name: claim_range
-- Jobs whose numbers follow one another from :first to :last.
UPDATE muskox_jobs
SET state = 3, attempt = attempt + 1, token = :token + seq - :first, lease_until = :until, worker = :worker,
    started = :now, due = NULL
WHERE seq BETWEEN :first AND :last;

-- name: allow_stalls
UPDATE muskox_jobs
SET max_stalls = :max_stalls
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND max_stalls IS NULL;

-- name: complete
-- Jobs without a result. Fenced: only rows that are still active under their token; since a token is given to one
-- claim of one job only, it is enough that each list holds the other's.
UPDATE muskox_jobs
SET state = 4, ended = :now, lease_until = NULL, failure = NULL
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND token IN (SELECT value FROM json_each(:tokens)) AND state = 3;

-- name: complete_range
-- As complete, where numbers and tokens follow one another.
UPDATE muskox_jobs
SET state = 4, ended = :now, lease_until = NULL, failure = NULL
WHERE seq BETWEEN :first AND :last AND token BETWEEN :token AND :token + :last - :first AND state = 3;

-- name: complete_with_results
-- :done is [[seq, token, result], …].
UPDATE muskox_jobs
SET state = 4, ended = :now, lease_until = NULL, result = json_extract(done.value, '$[2]'), failure = NULL
FROM json_each(:done) AS done
WHERE muskox_jobs.seq = json_extract(done.value, '$[0]') AND muskox_jobs.token = json_extract(done.value, '$[1]') AND muskox_jobs.state = 3;

-- name: still_held
-- Which of :leases, [[seq, token], …], still count.
SELECT muskox_jobs.seq, muskox_jobs.token
FROM json_each(:leases) AS lease JOIN muskox_jobs ON muskox_jobs.seq = json_extract(lease.value, '$[0]')
WHERE muskox_jobs.token = json_extract(lease.value, '$[1]') AND muskox_jobs.state = 3;

-- name: settled_as
-- The state of a job that was settled under this token and has not been claimed since.
SELECT state FROM muskox_jobs WHERE seq = :seq AND token = :token AND id = :id AND state <> 3;

-- name: settle
-- One job out of active into any other state; the fence was checked in the same transaction.
UPDATE muskox_jobs
SET state = :state, attempt = attempt - :refund, stalls = stalls + :stalls, releases = releases + :releases,
    lease_until = NULL, due = :due, arrival = :arrival, ended = :ended, clear_at = :clear_at, result = :result, line = NULL,
    failure = CASE WHEN :state = 4 THEN :failure ELSE COALESCE(:failure, failure) END
WHERE seq = :seq;

-- name: renew
UPDATE muskox_jobs
SET lease_until = :until
WHERE state = 3 AND seq IN (SELECT value FROM json_each(:seqs));

-- name: note
UPDATE muskox_jobs
SET progress = COALESCE(:progress, progress), data = COALESCE(:data, data), steps = COALESCE(:steps, steps)
WHERE seq = :seq;

-- name: last_line
SELECT COALESCE(max(number), 0) FROM muskox_logs WHERE job = :seq;

-- name: add_line
INSERT INTO muskox_logs (job, number, at, text) VALUES (:seq, :number, :now, :text);

-- name: due
SELECT muskox_jobs.seq, muskox_jobs.id, muskox_jobs.lane, muskox_jobs.attempt, muskox_jobs.key IS NOT NULL
FROM muskox_jobs
WHERE state = 1 AND due <= :now
ORDER BY due, seq
LIMIT :limit;

-- name: promote_due
-- Those with a key are blocked until they have joined its line; so too below.
UPDATE muskox_jobs
SET state = CASE WHEN key IS NULL THEN 0 ELSE 2 END, arrival = due, due = NULL, line = NULL
WHERE state = 1 AND seq IN (SELECT value FROM json_each(:seqs));

-- name: stalled
SELECT muskox_jobs.seq, muskox_jobs.lane, muskox_jobs.stalls, COALESCE(muskox_jobs.max_stalls, :max_stalls), muskox_jobs.worker,
       muskox_jobs.key IS NOT NULL
FROM muskox_jobs
WHERE state = 3 AND (lease_until < :now OR lease_until IS NULL)
ORDER BY lease_until
LIMIT :limit;

-- name: recover
-- The lease is over: its token is worth nothing from here on.
UPDATE muskox_jobs
SET state = :state, attempt = attempt - 1, stalls = stalls + 1, token = NULL, lease_until = NULL, due = :due,
    arrival = :arrival, ended = :ended, failure = COALESCE(:failure, failure), line = NULL
WHERE seq = :seq;

-- name: wait_again
-- By hand: selected jobs to waiting, arriving now. :grant is 1 when an attempt is granted.
UPDATE muskox_jobs
SET state = CASE WHEN key IS NULL THEN 0 ELSE 2 END, arrival = :now, due = NULL, token = NULL, line = NULL, ended = NULL, clear_at = NULL,
    attempts = CASE WHEN :grant AND attempt >= COALESCE(attempts, 1) THEN attempt + 1 ELSE attempts END,
    stalls = CASE WHEN :grant THEN 0 ELSE stalls END
WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: cancel
UPDATE muskox_jobs
SET state = 6, ended = :now, due = NULL, lease_until = NULL, token = NULL, waits = NULL, line = NULL
WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: remove
DELETE FROM muskox_jobs WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: latest
SELECT max(seq) FROM muskox_jobs;

-- name: remove_lines
DELETE FROM muskox_logs WHERE job IN (SELECT value FROM json_each(:seqs));

-- name: update_data
UPDATE muskox_jobs SET data = :data WHERE seq = :seq;

-- name: pause
UPDATE muskox_queues SET paused = :paused WHERE name = :queue AND paused <> :paused;

-- name: expired
-- Settled jobs whose own time is over.
SELECT seq, id, lane, state, attempt FROM muskox_jobs WHERE clear_at <= :now ORDER BY clear_at LIMIT :limit;

-- name: outdated
-- Settled jobs of a queue and state that ended before :before and have no time of their own.
SELECT seq, id, lane, state, attempt
FROM muskox_jobs
WHERE queue = :queue AND state = :state AND ended IS NOT NULL AND ended < :before AND clear_at IS NULL
ORDER BY ended
LIMIT :limit;

-- name: oldest_ended
SELECT seq, id, lane, state, attempt
FROM muskox_jobs
WHERE queue = :queue AND state = :state AND ended IS NOT NULL
ORDER BY ended
LIMIT :limit;

-- name: trim_events
DELETE FROM muskox_events WHERE first < (SELECT max(first) FROM muskox_events WHERE first <= :horizon);

-- name: state_totals
SELECT queue, sum(completed), sum(failed), sum(cancelled) FROM muskox_lanes GROUP BY queue;

-- name: beat
INSERT INTO muskox_workers (id, at, record) VALUES (:id, :now, :record)
ON CONFLICT (id) DO UPDATE SET at = excluded.at, record = excluded.record;

-- name: forget_worker
DELETE FROM muskox_workers WHERE id = :id;

-- name: forget_workers
DELETE FROM muskox_workers WHERE at < :before;

-- name: workers
SELECT at, record FROM muskox_workers WHERE at >= :since ORDER BY at, id;

-- name: get
-- CROSS keeps the planner to this order: it takes the list of ids for long, and would go through the whole queue.
SELECT muskox_jobs.*, muskox_queues.name AS queue_name, muskox_lanes.name AS name, muskox_flows.name AS flow_name
FROM muskox_queues
CROSS JOIN json_each(:ids) AS wanted
CROSS JOIN muskox_jobs ON muskox_jobs.queue = muskox_queues.id AND muskox_jobs.id = wanted.value
JOIN muskox_lanes ON muskox_lanes.id = muskox_jobs.lane
LEFT JOIN muskox_flows ON muskox_flows.id = muskox_jobs.flow
WHERE muskox_queues.name = :queue;

-- name: by_seq
SELECT muskox_jobs.*, muskox_queues.name AS queue_name, muskox_lanes.name AS name, muskox_flows.name AS flow_name
FROM json_each(:seqs) AS wanted
JOIN muskox_jobs ON muskox_jobs.seq = wanted.value
JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
JOIN muskox_lanes ON muskox_lanes.id = muskox_jobs.lane
LEFT JOIN muskox_flows ON muskox_flows.id = muskox_jobs.flow;

-- name: by_id
-- CROSS as above.
SELECT muskox_jobs.seq, muskox_jobs.id, muskox_jobs.lane, muskox_jobs.state, muskox_jobs.attempt
FROM json_each(:ids) AS wanted
CROSS JOIN muskox_jobs ON muskox_jobs.queue = :queue AND muskox_jobs.id = wanted.value;

-- name: lane
SELECT muskox_queues.id, muskox_queues.name, muskox_lanes.name
FROM muskox_lanes JOIN muskox_queues ON muskox_queues.id = muskox_lanes.queue
WHERE muskox_lanes.id = :lane;

-- name: lane_names
SELECT id, name FROM muskox_lanes WHERE queue = :queue;
