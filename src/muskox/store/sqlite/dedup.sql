-- The statements about dedup keys. What `rule`, `over`, `look` and `later` are is in migrations/0005.sql.

-- name: holder
-- Whether a job of that id is there, and which job has the key, as far as it is there: a later one that was given the
-- same id knows nothing of the key.
SELECT EXISTS (SELECT 1 FROM muskox_jobs WHERE queue = :queue AND id = :id),
       muskox_dedups.job, muskox_dedups.rule, muskox_dedups.over,
       muskox_jobs.seq, muskox_jobs.lane, muskox_jobs.state, muskox_jobs.priority, muskox_jobs.started
FROM (SELECT 1)
LEFT JOIN muskox_dedups ON muskox_dedups.queue = :queue AND muskox_dedups.key = :key
LEFT JOIN muskox_jobs ON muskox_jobs.queue = muskox_dedups.queue AND muskox_jobs.id = muskox_dedups.job
    AND json_extract(muskox_jobs.options, '$.dedup.key') = muskox_dedups.key;

-- name: hold
INSERT INTO muskox_dedups (queue, key, job, rule, over, look) VALUES (:queue, :key, :job, :rule, :over, :look)
ON CONFLICT (queue, key) DO UPDATE
SET job = excluded.job, rule = excluded.rule, over = excluded.over, look = excluded.look, later = NULL;

-- name: remember
UPDATE muskox_dedups SET later = :later WHERE queue = :queue AND key = :key;

-- name: rewrite
-- A job that has not started is given what a new one says, and keeps its place.
UPDATE muskox_jobs
SET data = :data, options = :options, attempts = :attempts, max_stalls = :max_stalls, added = :now
WHERE seq = :seq;

-- name: later_of
-- What is to be added after jobs in :ids that have ended or are gone.
SELECT key, later FROM muskox_dedups
WHERE later IS NOT NULL AND queue = :queue AND job IN (SELECT value FROM json_each(:ids))
  AND NOT EXISTS (
      SELECT 1 FROM muskox_jobs
      WHERE muskox_jobs.queue = muskox_dedups.queue AND muskox_jobs.id = muskox_dedups.job AND muskox_jobs.state < 4);

-- name: let_go
DELETE FROM muskox_dedups WHERE queue = :queue AND key = :key;

-- name: keyed
-- Those of the jobs that have a key.
SELECT muskox_jobs.queue, muskox_jobs.id, muskox_jobs.options
FROM json_each(:seqs) AS chosen JOIN muskox_jobs ON muskox_jobs.seq = chosen.value
WHERE muskox_jobs.options LIKE '%"dedup":%';

-- name: end_window
DELETE FROM muskox_dedups WHERE queue = :queue AND key = :key AND job = :job AND rule = 2;

-- name: to_look_at
-- Keys that have not been looked at for long, and whether they count no more and their job is gone.
SELECT muskox_dedups.queue, muskox_dedups.key,
       COALESCE(muskox_dedups.over <= :now, TRUE) AND NOT EXISTS (
           SELECT 1 FROM muskox_jobs
           WHERE muskox_jobs.queue = muskox_dedups.queue AND muskox_jobs.id = muskox_dedups.job)
FROM muskox_dedups
WHERE muskox_dedups.look <= :now
ORDER BY muskox_dedups.look
LIMIT :limit;

-- name: look_again
UPDATE muskox_dedups SET look = :look WHERE queue = :queue AND key = :key;

-- name: audit_later
-- Jobs that are to be added after one that has ended, or is not there.
SELECT muskox_queues.name, muskox_dedups.job, muskox_dedups.key
FROM muskox_dedups JOIN muskox_queues ON muskox_queues.id = muskox_dedups.queue
WHERE muskox_dedups.later IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM muskox_jobs
    WHERE muskox_jobs.queue = muskox_dedups.queue AND muskox_jobs.id = muskox_dedups.job AND muskox_jobs.state < 4);

-- name: audit_unheld
-- Jobs that nobody has begun with and that say that they have a key.
SELECT muskox_queues.name, muskox_queues.id, muskox_jobs.id, muskox_jobs.options
FROM muskox_jobs JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
WHERE muskox_jobs.state < 3 AND muskox_jobs.started IS NULL AND muskox_jobs.options LIKE '%"dedup":%';

-- name: has_holder
SELECT 1 FROM muskox_dedups WHERE queue = :queue AND key = :key;
