-- What the PostgreSQL store asks by itself; everything that writes is a function in migrations/.
-- The schema's name stands for the one that the URL asks for.

-- name: job
-- The columns of a whole job, in the order in which `rows.full` reads them.
j.ctid::text, j.id, q.name, l.name, j.state, j.rank, j.data, j.attempt, j.attempts, j.stalls, j.releases, j.options,
j.added, j.due, j.started, j.ended, j.progress, j.result, j.failure, j.worker, j.token, j.steps, j.tied, j.key,
CASE WHEN j.flow IS NOT NULL THEN (SELECT its.id FROM muskox.flows AS its WHERE its.number = j.flow) END

-- name: check
-- What is there: the names of the migrations, if their table is, and what must be known of server and session.
SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'),
       to_regclass('muskox.migrations') IS NOT NULL, pg_is_in_recovery(),
       current_setting('synchronous_standby_names') <> '', current_setting('synchronous_commit');

-- name: migrated
-- Readers are in a column that the first databases do not have.
SELECT name, to_jsonb(m) ->> 'reader' FROM muskox.migrations AS m;

-- name: lock
-- Migrations are applied by one at a time.
SELECT pg_advisory_xact_lock(775565, hashtext('muskox'));

-- name: hurry
-- Whoever waits for a table has all others wait behind him: so a migration waits for so many milliseconds only.
SELECT set_config('lock_timeout', %s, true);

-- name: holders
-- Who holds tables of a schema, longest first: what a migration waits for is mostly the first.
SELECT a.pid, COALESCE(NULLIF(a.application_name, ''), 'unnamed'), COALESCE(a.state, 'of another user'),
       COALESCE(extract(epoch FROM clock_timestamp() - a.xact_start)::integer, 0)
FROM pg_stat_activity AS a
WHERE a.pid <> pg_backend_pid() AND a.pid IN (
    SELECT l.pid FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
    WHERE l.granted AND c.relnamespace = to_regnamespace(%s)
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
)
ORDER BY a.xact_start
LIMIT 3;

-- name: make
CREATE SCHEMA IF NOT EXISTS muskox;
CREATE TABLE IF NOT EXISTS muskox.migrations (
    name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), reader text
);

-- name: note
INSERT INTO muskox.migrations (name, reader) VALUES (%s, %s);

-- name: identity
SELECT id::text FROM muskox.meta;

-- name: find_lanes
SELECT queue_name, lane_name, queue_id, lane_id FROM muskox.find_lanes(%s, %s);

-- name: lanes
SELECT q.name, l.name, q.id, l.id FROM muskox.lanes AS l JOIN muskox.queues AS q ON q.id = l.queue;

-- name: add
SELECT at, known, bells FROM muskox.add(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: add_once
SELECT at, refused, places, ids, states, bells FROM muskox.add_once(%s, %s, %s, %s, %s);

-- name: add_alike
-- Written as libpq reads it, since it is not said by way of the driver's cursors.
SELECT muskox.add_alike($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: add_tied
SELECT at, known, states, bells FROM muskox.add_tied(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: claim
SELECT * FROM muskox.claim(%s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: complete
SELECT lost, bells FROM muskox.complete(%s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: complete_tied
SELECT lost, bells FROM muskox.complete_tied(%s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: settle
SELECT lost, bells FROM muskox.settle(%s, %s, %s);

-- name: renew
SELECT muskox.renew(%s, %s, %s, %s, %s, %s);

-- name: annotate
SELECT lost, bells FROM muskox.annotate(%s, %s, %s, %s, %s);

-- name: put_limits
SELECT changed, bells FROM muskox.put_limits(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: put_key
SELECT muskox.put_key(%s, %s, %s, %s, %s, %s, %s, %s);

-- name: put_hold
SELECT muskox.put_hold(%s, %s, %s, %s);

-- name: promote
SELECT moved, bells FROM muskox.promote(%s, %s, %s);

-- name: recover
SELECT queue, id, worker, bells FROM muskox.recover(%s, %s, %s, %s);

-- name: clear
SELECT muskox.clear(%s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: change
SELECT moved, bells FROM muskox.change(%s, %s, %s, %s, %s, %s, %s);

-- name: update_data
SELECT muskox.update_data(%s, %s, %s, %s, %s);

-- name: pause
SELECT changed, bells FROM muskox.pause(%s, %s, %s);

-- name: publish
SELECT muskox.publish(%s, %s, %s, %s);

-- name: beat
SELECT muskox.beat(%s, %s, %s, %s);

-- name: await
SELECT muskox.await(%s, %s, %s);

-- name: ring
SELECT muskox.ring(%s, %s);

-- name: read_events
SELECT first, size, queue, kind, at, body FROM muskox.read_events(%s, %s, %s, %s);

-- name: get
SELECT {job}
FROM unnest(%s::text[]) AS w (id)
JOIN muskox.queues AS q ON q.name = %s
JOIN muskox.jobs AS j ON j.queue = q.id AND j.id = w.id
JOIN muskox.lanes AS l ON l.id = j.lane;

-- name: get_by_queue
SELECT {job}
FROM unnest(%s::text[], %s::text[]) AS w (queue, id)
JOIN muskox.queues AS q ON q.name = w.queue
JOIN muskox.jobs AS j ON j.queue = q.id AND j.id = w.id
JOIN muskox.lanes AS l ON l.id = j.lane;

-- name: lanes_of
SELECT l.id, l.name, q.id FROM muskox.lanes AS l JOIN muskox.queues AS q ON q.id = l.queue WHERE q.name = %s ORDER BY l.id;

-- name: page_waiting
SELECT j.rank, j.arrival, j.seq, {job}
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue JOIN muskox.lanes AS l ON l.id = j.lane
WHERE j.lane = %(lane)s AND j.state = 0 AND (j.rank, j.arrival, j.seq) > (%(rank)s, %(moment)s, %(seq)s)
ORDER BY j.rank, j.arrival, j.seq
LIMIT %(limit)s;

-- name: page_delayed
SELECT 0, j.due, j.seq, {job}
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue JOIN muskox.lanes AS l ON l.id = j.lane
WHERE j.state = 1 AND j.lane = ANY (%(lanes)s::integer[]) AND (j.due, j.seq) > (%(moment)s, %(seq)s)
ORDER BY j.due, j.seq
LIMIT %(limit)s;

-- name: page_active
-- The number of active jobs is bounded by the slots there are, so they may be sorted.
SELECT 0, j.started, j.seq, {job}
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue JOIN muskox.lanes AS l ON l.id = j.lane
WHERE j.state = 3 AND j.lane = ANY (%(lanes)s::integer[]) AND (j.started, j.seq) > (%(moment)s, %(seq)s)
ORDER BY j.started, j.seq
LIMIT %(limit)s;

-- name: page_blocked
SELECT 0, 0, j.seq, {job}
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue JOIN muskox.lanes AS l ON l.id = j.lane
WHERE j.queue = %(queue)s AND j.state = 2 AND j.seq > 0 AND j.lane = ANY (%(lanes)s::integer[]) AND j.seq > %(seq)s
ORDER BY j.seq
LIMIT %(limit)s;

-- name: page_ended
SELECT 0, j.ended, j.seq, {job}
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue JOIN muskox.lanes AS l ON l.id = j.lane
WHERE j.queue = %(queue)s AND j.state = %(state)s AND j.ended IS NOT NULL AND j.lane = ANY (%(lanes)s::integer[])
  AND (%(first)s OR (j.ended, j.seq) < (%(moment)s, %(seq)s))
ORDER BY j.ended DESC, j.seq DESC
LIMIT %(limit)s;

-- name: pack_waiting
-- Lane by lane along the index, and then as a claim would choose among them. With a key, the arrival in its line counts.
SELECT j.seq, CASE WHEN j.key IS NULL THEN j.arrival ELSE COALESCE(j.stood, j.arrival) END, j.clear_at, {job}
FROM muskox.queues AS q
JOIN muskox.lanes AS l ON l.queue = q.id
CROSS JOIN LATERAL (
    SELECT one.ctid, one.*
    FROM muskox.jobs AS one
    WHERE one.lane = l.id AND one.state = 0
    ORDER BY one.rank, one.arrival, one.seq
    LIMIT %(limit)s
) AS j
WHERE q.name = %(queue)s
ORDER BY j.rank, j.arrival, j.seq
LIMIT %(limit)s;

-- name: pack_blocked
-- Those that stand behind others of their key.
SELECT j.seq, j.arrival, j.clear_at, {job}
FROM muskox.queues AS q JOIN muskox.jobs AS j ON j.queue = q.id JOIN muskox.lanes AS l ON l.id = j.lane
WHERE q.name = %(queue)s AND j.state = 2 AND j.bound IS NULL
ORDER BY j.key, j.rank, j.arrival, j.seq
LIMIT %(limit)s;

-- name: pack_delayed
SELECT j.seq, j.arrival, j.clear_at, {job}
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue JOIN muskox.lanes AS l ON l.id = j.lane
WHERE j.state = 1 AND q.name = %(queue)s
ORDER BY j.due, j.seq
LIMIT %(limit)s;

-- name: pack_ended
SELECT j.seq, j.arrival, j.clear_at, {job}
FROM muskox.queues AS q JOIN muskox.jobs AS j ON j.queue = q.id JOIN muskox.lanes AS l ON l.id = j.lane
WHERE q.name = %(queue)s AND j.state = %(state)s AND j.ended IS NOT NULL
ORDER BY j.ended, j.seq
LIMIT %(limit)s;

-- name: lines_of
SELECT job, number, at, text FROM muskox.logs WHERE job = ANY (%s::bigint[]) ORDER BY job, number;

-- name: adopt
SELECT stored, states, bells FROM muskox.adopt(%s, %s);

-- name: stand
-- Those before it are counted along the index of waiting jobs, lane by lane, until there are so many.
SELECT now.now, q.paused, j.lease_until, higher.number, earlier.number, {job}
FROM muskox.queues AS q
JOIN muskox.jobs AS j ON j.queue = q.id AND j.id = %(id)s
JOIN muskox.lanes AS l ON l.id = j.lane
CROSS JOIN muskox.moment(%(now)s) AS now (now)
CROSS JOIN LATERAL (
    SELECT count(*) AS number
    FROM (
        SELECT
        FROM muskox.lanes AS its
        CROSS JOIN LATERAL (
            SELECT FROM muskox.jobs AS o WHERE o.lane = its.id AND o.state = 0 AND o.rank < j.rank
            ORDER BY o.rank, o.arrival, o.seq LIMIT %(most)s
        ) AS o
        WHERE its.queue = q.id AND (%(names)s::text[] IS NULL OR its.name = ANY (%(names)s::text[])) AND j.state = 0
        LIMIT %(most)s
    ) AS one
) AS higher
CROSS JOIN LATERAL (
    SELECT count(*) AS number
    FROM (
        SELECT
        FROM muskox.lanes AS its
        CROSS JOIN LATERAL (
            SELECT FROM muskox.jobs AS o
            WHERE o.lane = its.id AND o.state = 0 AND o.rank = j.rank AND (o.arrival, o.seq) < (j.arrival, j.seq)
            ORDER BY o.arrival, o.seq LIMIT %(most)s
        ) AS o
        WHERE its.queue = q.id AND (%(names)s::text[] IS NULL OR its.name = ANY (%(names)s::text[])) AND j.state = 0
        LIMIT %(most)s
    ) AS one
) AS earlier
WHERE q.name = %(queue)s;

-- name: logs
SELECT g.number, g.at, g.text
FROM muskox.queues AS q JOIN muskox.jobs AS j ON j.queue = q.id JOIN muskox.logs AS g ON g.job = j.seq
WHERE q.name = %s AND j.id = %s AND g.number > %s
ORDER BY g.number
LIMIT %s;

-- name: counts
-- A row per lane: queue, whether paused, name, figures, and the age of the oldest where something waits, found among at
-- most 64 priorities; then the records of the live workers. Lanes that were made for an add that was rolled back never
-- had a job: they are left out, and so is a queue that has no others.
(
    SELECT q.name, q.paused, c.name, c.waiting, c.delayed, c.blocked, c.active, c.completed, c.failed, c.cancelled,
           c.added, CASE WHEN c.waiting > 0 THEN now.now - (SELECT min(o.arrival) FROM muskox.oldest(c.lane) AS o) END,
           NULL::text
    FROM muskox.moment(%s) AS now (now)
    CROSS JOIN muskox.queues AS q
    LEFT JOIN (muskox.lanes AS l JOIN muskox.counted AS f ON f.lane = l.id)
           AS c (id, queue, name, label, lane, waiting, delayed, blocked, active, completed, failed, cancelled, added)
           ON c.queue = q.id
    WHERE c.lane IS NOT NULL OR q.paused OR NOT EXISTS (SELECT FROM muskox.lanes AS l WHERE l.queue = q.id)
    ORDER BY q.id, c.lane
)
UNION ALL
SELECT NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, NULL, w.record
FROM muskox.workers AS w, muskox.moment(%s) AS now (now)
WHERE w.at >= now.now - %s;

-- name: workers
SELECT now.now - w.at, w.record
FROM muskox.workers AS w, muskox.moment(%s) AS now (now)
WHERE w.at >= now.now - %s
ORDER BY w.at, w.id;

-- name: audit
-- Compares what is kept up with what is there; gives findings: what, queue, job.
SELECT s.kept || ' jobs named ' || l.name || ' are said to be ' || s.state || ', ' || s.real || ' are', q.name, ''
FROM muskox.lanes AS l
JOIN muskox.queues AS q ON q.id = l.queue
LEFT JOIN muskox.counted AS c ON c.lane = l.id
LEFT JOIN (
    SELECT j.lane, count(*) FILTER (WHERE j.state = 0) AS waiting, count(*) FILTER (WHERE j.state = 1) AS delayed,
           count(*) FILTER (WHERE j.state = 2) AS blocked, count(*) FILTER (WHERE j.state = 3) AS active,
           count(*) FILTER (WHERE j.state = 4) AS completed, count(*) FILTER (WHERE j.state = 5) AS failed,
           count(*) FILTER (WHERE j.state = 6) AS cancelled
    FROM muskox.jobs AS j
    GROUP BY j.lane
) AS r ON r.lane = l.id
CROSS JOIN LATERAL (
    VALUES ('waiting', COALESCE(c.waiting, 0), COALESCE(r.waiting, 0)), ('delayed', COALESCE(c.delayed, 0), COALESCE(r.delayed, 0)),
           ('blocked', COALESCE(c.blocked, 0), COALESCE(r.blocked, 0)), ('active', COALESCE(c.active, 0), COALESCE(r.active, 0)),
           ('completed', COALESCE(c.completed, 0), COALESCE(r.completed, 0)), ('failed', COALESCE(c.failed, 0), COALESCE(r.failed, 0)),
           ('cancelled', COALESCE(c.cancelled, 0), COALESCE(r.cancelled, 0))
) AS s (state, kept, real)
WHERE s.kept <> s.real
UNION ALL
SELECT 'active without a lease', q.name, j.id
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue
WHERE j.state = 3 AND (j.token IS NULL OR j.lease_until IS NULL OR j.attempt < 1)
UNION ALL
SELECT 'in state ' || j.state || ' with a moment that does not fit', q.name, j.id
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue
WHERE (j.state = 1) <> (j.due IS NOT NULL) OR (j.state >= 4) <> (j.ended IS NOT NULL) OR j.state NOT BETWEEN 0 AND 6
UNION ALL
SELECT 'in a lane that is not its own', '', j.id
FROM muskox.jobs AS j LEFT JOIN muskox.lanes AS l ON l.id = j.lane
WHERE l.id IS NULL OR l.queue <> j.queue
UNION ALL
SELECT DISTINCT 'log lines of job row ' || g.job || ', which is not there', '', ''
FROM muskox.logs AS g
WHERE NOT EXISTS (SELECT FROM muskox.jobs AS j WHERE j.seq = g.job)
UNION ALL
SELECT 'event record ' || e.id || ' has no offset', '', ''
FROM muskox.events AS e
WHERE NOT EXISTS (SELECT FROM muskox.offsets AS o WHERE o.event = e.id)
  AND NOT EXISTS (SELECT FROM muskox.pending AS p WHERE p.event = e.id)
UNION ALL
SELECT 'offset ' || o.first || ' has no event record', '', ''
FROM muskox.offsets AS o
WHERE NOT EXISTS (SELECT FROM muskox.events AS e WHERE e.id = o.event)
UNION ALL
SELECT 'after offset ' || s.first + s.size - 1 || ' comes ' || s.next, '', ''
FROM (SELECT o.first, o.size, lead(o.first) OVER (ORDER BY o.first) AS next FROM muskox.offsets AS o) AS s
WHERE s.next <> s.first + s.size
UNION ALL
SELECT 'a job with the dedup key ' || d.key || ' is to be added after it, and it has ended', q.name, d.job
FROM muskox.dedups AS d JOIN muskox.queues AS q ON q.id = d.queue
WHERE d.later IS NOT NULL
  AND NOT EXISTS (SELECT FROM muskox.jobs AS j WHERE j.queue = d.queue AND j.id = d.job AND j.state <= 3)
UNION ALL
SELECT 'it has to be begun in time, and nobody looks', q.name, j.id
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue
WHERE j.state < 3 AND j.attempt = 0 AND j.stalls = 0 AND j.started IS NULL AND position('"expires_in":' IN j.options) > 0
  AND NOT EXISTS (SELECT FROM muskox.expiries AS e WHERE e.queue = j.queue AND e.job = j.id)
UNION ALL
SELECT 'nobody has its dedup key', q.name, j.id
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue
WHERE j.state < 3 AND j.started IS NULL AND position('"dedup":' IN j.options) > 0 AND position('"window":' IN j.options) = 0
  AND NOT EXISTS (SELECT FROM muskox.dedups AS d WHERE d.queue = j.queue AND d.job = j.id)
  AND NOT EXISTS (
      SELECT FROM muskox.dedups AS d
      WHERE d.queue = j.queue AND position('"key":' || to_json(d.key)::text IN j.options) > 0);
