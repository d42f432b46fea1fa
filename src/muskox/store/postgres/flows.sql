-- The statements about flows and batches; migrations/0011.sql has the tables, statements.sql the words.

-- name: grow
SELECT at, known, states, failures, bells
FROM muskox.grow(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: fill_alike
-- Written as libpq reads it, since it is not said by way of the driver's cursors.
SELECT muskox.fill_alike($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: branch
SELECT at, known, states, failures, bells, lost, flow
FROM muskox.branch(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: close_flow
SELECT muskox.close_flow(%s, %s, %s, %s);

-- name: change_flow
SELECT moved, bells FROM muskox.change_flow(%s, %s, %s, %s, %s);

-- name: flows_by_id
-- The columns of a flow, here and below, are in the order in which `flowing` reads them.
SELECT f.number, f.id, f.graph, f.open, f.added, f.total, f.completed, f.failed, f.cancelled, f.ended, f.completed_job,
       f.settled_job, f.completed_added, f.settled_added
FROM unnest(%s::text[]) WITH ORDINALITY AS w (id, place) JOIN muskox.flows AS f ON f.id = w.id
ORDER BY w.place;

-- name: page_flows
SELECT f.number, f.id, f.graph, f.open, f.added, f.total, f.completed, f.failed, f.cancelled, f.ended, f.completed_job,
       f.settled_job, f.completed_added, f.settled_added
FROM muskox.flows AS f
WHERE f.number < %s
ORDER BY f.number DESC
LIMIT %s;

-- name: page_unended_flows
SELECT f.number, f.id, f.graph, f.open, f.added, f.total, f.completed, f.failed, f.cancelled, f.ended, f.completed_job,
       f.settled_job, f.completed_added, f.settled_added
FROM muskox.flows AS f
WHERE f.number < %s AND f.ended IS NULL
ORDER BY f.number DESC
LIMIT %s;

-- name: flow_jobs
-- State by state along the index of jobs of flows, and then in the order of their adding.
SELECT j.seq, {job}
FROM muskox.flows AS f
CROSS JOIN unnest(%(states)s::smallint[]) AS s (state)
CROSS JOIN LATERAL (
    SELECT one.ctid, one.*
    FROM muskox.jobs AS one
    WHERE one.flow = f.number AND one.state = s.state AND one.seq > %(after)s
    ORDER BY one.seq
    LIMIT %(limit)s
) AS j
JOIN muskox.queues AS q ON q.id = j.queue JOIN muskox.lanes AS l ON l.id = j.lane
WHERE f.id = %(id)s
ORDER BY j.seq
LIMIT %(limit)s;

-- name: parents
SELECT e.name, its.name, p.id, e.meaning, COALESCE(p.state, o.state), p.result, p.failure
FROM muskox.queues AS q
JOIN muskox.jobs AS j ON j.queue = q.id AND j.id = %(id)s AND j.flow IS NOT NULL
JOIN muskox.edges AS e ON e.child = j.seq
JOIN muskox.nodes AS p ON p.seq = e.parent
JOIN muskox.queues AS its ON its.id = p.queue
LEFT JOIN muskox.jobs AS o ON o.queue = p.queue AND o.id = p.id AND o.seq = p.seq
WHERE q.name = %(queue)s AND (p.state IS NULL OR NOT %(unended)s)
ORDER BY e.place
LIMIT %(limit)s;

-- name: audit_flows
-- Compares flows with their jobs; gives findings: what, queue, job.
SELECT format('flow %%s: %%s jobs are said not to have ended, %%s have not', f.id, s.said, s.real), '', ''
FROM muskox.flows AS f
CROSS JOIN LATERAL (
    SELECT f.total - f.completed - f.failed - f.cancelled AS said,
           (SELECT count(*) FROM muskox.jobs AS j WHERE j.flow = f.number AND j.state < 4) AS real
) AS s
WHERE s.said <> s.real
UNION ALL
SELECT format('flow %%s: fewer jobs are said to have ended than are there', f.id), '', ''
FROM muskox.flows AS f
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE j.state = 4) AS completed, count(*) FILTER (WHERE j.state = 5) AS failed,
           count(*) FILTER (WHERE j.state = 6) AS cancelled
    FROM muskox.jobs AS j WHERE j.flow = f.number
) AS s
WHERE f.completed < s.completed OR f.failed < s.failed OR f.cancelled < s.cancelled
UNION ALL
SELECT format('flow %%s: its end does not fit its figures', f.id), '', ''
FROM muskox.flows AS f
WHERE (f.ended IS NOT NULL) <> (NOT f.open AND f.total = f.completed + f.failed + f.cancelled)
   OR (f.ended IS NOT NULL) <> (f.look IS NOT NULL)
   OR (f.ended IS NOT NULL AND NOT (f.settled_added AND (f.completed_added OR f.completed < f.total)))
UNION ALL
SELECT format('waits for %%s parents, %%s have not ended', n.waits, s.real), q.name, n.id
FROM muskox.nodes AS n JOIN muskox.queues AS q ON q.id = n.queue
CROSS JOIN LATERAL (
    SELECT count(*) AS real
    FROM muskox.edges AS e JOIN muskox.nodes AS p ON p.seq = e.parent
    WHERE e.child = n.seq AND p.state IS NULL
) AS s
WHERE n.waits IS NOT NULL AND (n.waits < 1 OR n.waits <> s.real)
UNION ALL
SELECT 'does not fit its flow or its node', q.name, j.id
FROM muskox.jobs AS j JOIN muskox.queues AS q ON q.id = j.queue
LEFT JOIN muskox.flows AS f ON f.number = j.flow
LEFT JOIN muskox.nodes AS n ON n.seq = j.seq
WHERE (j.flow IS NOT NULL AND (f.number IS NULL OR j.tied IS NOT TRUE OR f.graph <> (n.seq IS NOT NULL)))
   OR (n.seq IS NOT NULL AND (
       n.flow IS DISTINCT FROM j.flow OR n.queue <> j.queue OR n.id <> j.id
       OR n.state IS DISTINCT FROM CASE WHEN j.state >= 4 THEN j.state END
       OR (n.waits IS NOT NULL) <> (j.bound IS TRUE)))
   OR (j.bound AND (j.state <> 2 OR n.seq IS NULL))
UNION ALL
SELECT 'a node that has not ended and has no job', '', n.id
FROM muskox.nodes AS n
WHERE n.state IS NULL AND NOT EXISTS (
    SELECT FROM muskox.jobs AS j WHERE j.queue = n.queue AND j.id = n.id AND j.seq = n.seq)
UNION ALL
SELECT 'a node of no flow', '', n.id
FROM muskox.nodes AS n
WHERE NOT EXISTS (SELECT FROM muskox.flows AS f
WHERE f.number = n.flow)
UNION ALL
SELECT 'an edge of no node', '', e.name
FROM muskox.edges AS e
WHERE NOT EXISTS (SELECT FROM muskox.nodes AS n WHERE n.seq = e.child)
   OR NOT EXISTS (SELECT FROM muskox.nodes AS n WHERE n.seq = e.parent);
