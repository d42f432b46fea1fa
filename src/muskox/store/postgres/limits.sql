-- What is shown of limits and keys, and audited.

-- name: queue_limits
SELECT now.now, l.record, l.declared, l.active, l.empty, l.held_until
FROM muskox.moment(%s) AS now (now)
LEFT JOIN (muskox.queues AS q JOIN muskox.limits AS l ON l.queue = q.id) ON q.name = %s;

-- name: named_keys
SELECT k.name, k.own, k.open, k.blocked, k.active, k.empty, k.held_until
FROM muskox.queues AS q JOIN muskox.keys AS k ON k.queue = q.id
WHERE q.name = %s AND k.name = ANY (%s::text[]);

-- name: page_keys
SELECT k.name, k.own, k.open, k.blocked, k.active, k.empty, k.held_until
FROM muskox.queues AS q JOIN muskox.keys AS k ON k.queue = q.id
WHERE q.name = %s AND k.name > %s AND (k.open + k.blocked + k.active > 0 OR k.own IS NOT NULL OR k.held_until > %s)
ORDER BY k.name
LIMIT %s;

-- name: running_of_key
SELECT j.id
FROM muskox.jobs AS j
WHERE j.state = 3 AND j.queue = (SELECT q.id FROM muskox.queues AS q WHERE q.name = %s) AND j.key = %s
ORDER BY j.started, j.seq
LIMIT %s;

-- name: behind_its_key
-- Blocked jobs of the same key that come to the line before it: of higher priority, and of the same but earlier.
SELECT
    (SELECT count(*) FROM (
        SELECT FROM muskox.jobs AS o
        WHERE o.queue = j.queue AND o.key = j.key AND o.state = 2 AND o.bound IS NULL AND o.rank < j.rank LIMIT %(most)s) AS one),
    (SELECT count(*) FROM (
        SELECT FROM muskox.jobs AS o
        WHERE o.queue = j.queue AND o.key = j.key AND o.state = 2 AND o.bound IS NULL AND o.rank = j.rank
          AND (o.arrival, o.seq) < (j.arrival, j.seq) LIMIT %(most)s) AS one)
FROM muskox.queues AS q JOIN muskox.jobs AS j ON j.queue = q.id
WHERE q.name = %(queue)s AND j.id = %(id)s AND j.state = 2 AND j.bound IS NULL;

-- name: audit_limits
SELECT 'key ' || COALESCE(k.name, r.key) || ' is said to have ' || s.kept || ' ' || s.state || ' jobs, it has ' || s.real, q.name, ''
FROM (SELECT * FROM muskox.keys) AS k
FULL JOIN (
    SELECT j.queue, j.key, count(*) FILTER (WHERE j.state = 0) AS open, count(*) FILTER (WHERE j.state = 1) AS delayed,
           count(*) FILTER (WHERE j.state = 2) AS blocked, count(*) FILTER (WHERE j.state = 3) AS active
    FROM muskox.jobs AS j
    WHERE j.key IS NOT NULL AND j.state < 4 AND j.bound IS NULL
    GROUP BY j.queue, j.key
) AS r ON r.queue = k.queue AND r.key = k.name
JOIN muskox.queues AS q ON q.id = COALESCE(k.queue, r.queue)
CROSS JOIN LATERAL (
    VALUES ('waiting', COALESCE(k.open, 0), COALESCE(r.open, 0)), ('delayed', COALESCE(k.delayed, 0), COALESCE(r.delayed, 0)),
           ('blocked', COALESCE(k.blocked, 0), COALESCE(r.blocked, 0)), ('active', COALESCE(k.active, 0), COALESCE(r.active, 0))
) AS s (state, kept, real)
WHERE s.kept <> s.real
UNION ALL
-- What makes room lets the next into line in the same step; but for time and for limits that were changed, which are
-- looked at later.
SELECT 'key ' || r.name || ' has room for ' || least(r.most, r.may) - r.open || ' of its ' || r.blocked || ' blocked jobs', q.name, ''
FROM muskox.moment(%s) AS now (now)
CROSS JOIN LATERAL muskox.rooms(
    now.now, ARRAY(SELECT k.queue FROM muskox.keys AS k ORDER BY k.queue, k.name),
    ARRAY(SELECT k.name FROM muskox.keys AS k ORDER BY k.queue, k.name)) AS r
JOIN muskox.queues AS q ON q.id = r.queue
JOIN muskox.keys AS k ON k.queue = r.queue AND k.name = r.name
LEFT JOIN muskox.limits AS l ON l.queue = r.queue
WHERE r.blocked > 0 AND least(r.most, r.may) > r.open AND k.look_at IS NULL AND (l.sweep IS NULL OR l.sweep >= k.name)
UNION ALL
SELECT 'key ' || k.name || ' is not to be kept, and has no moment at which it is forgotten', q.name, ''
FROM muskox.keys AS k JOIN muskox.queues AS q ON q.id = k.queue
WHERE (k.open + k.active + k.blocked + k.delayed = 0 AND k.own IS NULL) <> (k.idle_at IS NOT NULL)
UNION ALL
SELECT l.active || ' jobs are said to be active and counted, ' || r.real || ' are', q.name, ''
FROM muskox.limits AS l JOIN muskox.queues AS q ON q.id = l.queue
CROSS JOIN LATERAL (
    SELECT count(*) AS real FROM muskox.jobs AS j WHERE j.queue = l.queue AND j.state = 3 AND j.counted
) AS r
WHERE l.concurrency IS NOT NULL AND l.active <> r.real
UNION ALL
SELECT 'has a key and nobody is tied to it', q.name, j.id
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue
WHERE (j.key IS NOT NULL OR (j.counted AND j.state = 3)) AND j.tied IS NOT TRUE;
