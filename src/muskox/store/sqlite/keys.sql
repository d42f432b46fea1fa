-- Limits of queues and the lines of keys; all other statements are in statements.sql, see there for the words.

-- name: limits_of
SELECT limits, empty, held, declared FROM muskox_limits WHERE queue = :queue;

-- name: put_limits
INSERT INTO muskox_limits (queue, limits, declared)
VALUES (:queue, :limits, :declared)
ON CONFLICT (queue) DO UPDATE SET limits = excluded.limits, declared = excluded.declared;

-- name: mark_bounded
UPDATE muskox_meta SET bounded = EXISTS (
    SELECT 1 FROM muskox_limits WHERE json_extract(limits, '$.max_waiting') IS NOT NULL);

-- name: in_queue
-- How many jobs wait in a queue, those behind them that are blocked included.
SELECT COALESCE(sum(waiting + blocked), 0) FROM muskox_lanes WHERE queue = :queue;

-- name: first_to_go
-- The jobs that are dropped first from a queue that is full; there are no more than it may hold.
SELECT seq, id, lane, state, attempt
FROM muskox_jobs
WHERE lane IN (SELECT id FROM muskox_lanes WHERE queue = :queue) AND state = 0
ORDER BY priority, arrival, seq
LIMIT :limit;

-- name: take_rate
UPDATE muskox_limits SET empty = :empty WHERE queue = :queue;

-- name: hold_queue
INSERT INTO muskox_limits (queue, limits, held)
VALUES (:queue, '{}', :held)
ON CONFLICT (queue) DO UPDATE SET held = excluded.held;

-- name: shift_limits
UPDATE muskox_limits SET empty = empty - :jump * 1000, held = held - :jump;

-- name: shift_keys
UPDATE muskox_keys SET empty = empty - :jump * 1000, held = held - :jump, look_at = look_at - :jump;

-- name: mark_limited
UPDATE muskox_queues SET limited = limited | :mark WHERE id = :queue AND limited & :mark = 0;

-- name: active_in
SELECT id, active FROM muskox_lanes WHERE queue = :queue;

-- name: add_keys
INSERT INTO muskox_keys (queue, name)
SELECT :queue, value FROM json_each(:names) WHERE TRUE
ON CONFLICT (queue, name) DO NOTHING;

-- name: keys_named
SELECT json_group_array(json_array(keys.id, queue, name, waiting, blocked, active, own, empty, held, look_at))
FROM json_each(:names) AS wanted CROSS JOIN muskox_keys AS keys ON keys.queue = :queue AND keys.name = wanted.value;

-- name: keys_of
SELECT json_group_array(json_array(keys.id, queue, name, waiting, blocked, active, own, empty, held, look_at))
FROM json_each(:ids) AS wanted CROSS JOIN muskox_keys AS keys ON keys.id = wanted.value;

-- name: keys_to_look_at
SELECT json_group_array(json_array(id, queue, name, waiting, blocked, active, own, empty, held, look_at))
FROM (SELECT * FROM muskox_keys WHERE queue = :queue AND look_at <= :now ORDER BY look_at LIMIT :limit);

-- name: next_look
SELECT min(look_at) FROM muskox_keys WHERE queue = :queue AND look_at IS NOT NULL;

-- name: keys_after
-- Those that are more than a bucket that fills up.
SELECT json_group_array(json_array(id, queue, name, waiting, blocked, active, own, empty, held, look_at))
FROM (
    SELECT * FROM muskox_keys
    WHERE queue = :queue AND name > :after
      AND (waiting > 0 OR blocked > 0 OR active > 0 OR own IS NOT NULL OR held > :now)
    ORDER BY name
    LIMIT :limit
);

-- name: write_keys
-- :keys is [[id, waiting, blocked, active, empty, held, look_at], …].
UPDATE muskox_keys
SET waiting = json_extract(value, '$[1]'), blocked = json_extract(value, '$[2]'), active = json_extract(value, '$[3]'),
    empty = json_extract(value, '$[4]'), held = json_extract(value, '$[5]'), look_at = json_extract(value, '$[6]')
FROM json_each(:keys)
WHERE muskox_keys.id = json_extract(value, '$[0]');

-- name: own_key
UPDATE muskox_keys SET own = :own WHERE id = :id;

-- name: look_at_all
-- Keys whose limits may have been raised.
UPDATE muskox_keys SET look_at = :now WHERE queue = :queue AND blocked > 0;

-- name: forget_keys
DELETE FROM muskox_keys
WHERE id IN (
    SELECT id FROM muskox_keys
    WHERE queue = :queue AND waiting = 0 AND blocked = 0 AND active = 0 AND own IS NULL
      AND empty <= :full AND (held IS NULL OR held <= :now)
    LIMIT :limit
);

-- name: queues_with_keys
SELECT id FROM muskox_queues WHERE limited & 2;

-- name: latest_job
SELECT max(seq) FROM muskox_jobs;

-- name: new_with_keys
-- Jobs that are to join the line of their key, of those that were added after :after.
SELECT json_group_array(json_array(seq, id, queue, lane, attempt, key, state))
FROM muskox_jobs
WHERE seq > :after AND state = 2 AND key IS NOT NULL;

-- name: with_keys
-- Those of the jobs that have a key, in the order of :seqs.
SELECT json_group_array(json_array(jobs.seq, jobs.id, jobs.queue, jobs.lane, jobs.attempt, jobs.key, jobs.state))
FROM json_each(:seqs) AS wanted CROSS JOIN muskox_jobs AS jobs ON jobs.seq = wanted.value
WHERE jobs.key IS NOT NULL;

-- name: join_lines
-- :joined is [[seq, line, state], …].
UPDATE muskox_jobs
SET line = json_extract(value, '$[1]'), state = json_extract(value, '$[2]')
FROM json_each(:joined)
WHERE seq = json_extract(value, '$[0]');

-- name: in_lines
-- Where jobs stand, or whose slot they have.
SELECT json_group_array(json_array(jobs.seq, jobs.line, jobs.state))
FROM json_each(:seqs) AS wanted CROSS JOIN muskox_jobs AS jobs ON jobs.seq = wanted.value
WHERE jobs.line IS NOT NULL AND jobs.state IN (0, 2, 3);

-- name: lines_of_active
-- Whose slots jobs have, or had until now.
SELECT json_group_array(jobs.line)
FROM json_each(:seqs) AS wanted CROSS JOIN muskox_jobs AS jobs ON jobs.seq = wanted.value
WHERE jobs.line IS NOT NULL;

-- name: leave_lines
UPDATE muskox_jobs SET line = NULL WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state IN (0, 2);

-- name: next_in_lines
-- The first :room of each of the lines.
SELECT json_group_array(json_array(jobs.seq, jobs.id, jobs.lane, jobs.attempt, jobs.line))
FROM json_each(:lines) AS wanted CROSS JOIN muskox_jobs AS jobs ON jobs.seq IN (
    SELECT seq FROM muskox_jobs
    WHERE line = wanted.value AND state = 2
    ORDER BY priority DESC, arrival, seq
    LIMIT :room
);

-- name: open
UPDATE muskox_jobs SET state = 0, arrival = :now WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: go_back
UPDATE muskox_jobs SET state = 2 WHERE state = 0 AND seq IN (SELECT value FROM json_each(:seqs));

-- name: place_in_line
SELECT line, priority, arrival, seq FROM muskox_jobs WHERE queue = :queue AND id = :id AND state = 2 AND line IS NOT NULL;

-- name: holders
SELECT jobs.id
FROM muskox_keys AS keys CROSS JOIN muskox_jobs AS jobs ON jobs.state = 3 AND jobs.line = keys.id
WHERE keys.queue = :queue AND keys.name = :key
ORDER BY jobs.started, jobs.seq
LIMIT 10;

-- name: count_higher_of_key
SELECT count(*) FROM (
    SELECT 1 FROM muskox_jobs WHERE line = :line AND state = 2 AND priority > :priority LIMIT :most
);

-- name: count_earlier_of_key
SELECT count(*) FROM (
    SELECT 1 FROM muskox_jobs
    WHERE line = :line AND state = 2 AND priority = :priority AND (arrival, seq) < (:arrival, :seq)
    LIMIT :most
);

-- name: first_in_lines
-- The blocked jobs of a queue, key by key in the order of their lines.
SELECT jobs.seq, jobs.id, jobs.lane, jobs.state, jobs.attempt
FROM muskox_keys AS keys CROSS JOIN muskox_jobs AS jobs ON jobs.line = keys.id AND jobs.state = 2
WHERE keys.queue = :queue
LIMIT :limit;

-- name: audit_lines_of_keys
SELECT keys.id, muskox_queues.name, keys.name, keys.waiting, keys.blocked, keys.active,
       sum(jobs.state = 0), sum(jobs.state = 2), sum(jobs.state = 3), sum(jobs.key <> keys.name)
FROM muskox_keys AS keys JOIN muskox_queues ON muskox_queues.id = keys.queue
LEFT JOIN muskox_jobs AS jobs ON jobs.line = keys.id AND jobs.state IN (0, 2, 3)
GROUP BY keys.id;

-- name: audit_lineless
SELECT muskox_queues.name, jobs.id
FROM muskox_jobs AS jobs JOIN muskox_queues ON muskox_queues.id = jobs.queue
LEFT JOIN muskox_keys AS keys ON keys.id = jobs.line
WHERE jobs.state IN (0, 3) AND jobs.key IS NOT NULL AND keys.id IS NULL;
