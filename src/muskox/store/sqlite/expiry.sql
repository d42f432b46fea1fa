-- The statements about jobs that have to be begun in time.

-- name: expire_at
INSERT INTO muskox_expiries (at, queue, job) SELECT :at, :queue, value FROM json_each(:ids) WHERE TRUE
ON CONFLICT DO NOTHING;

-- name: expiring
SELECT muskox_expiries.at, muskox_expiries.queue, muskox_expiries.job, muskox_jobs.seq
FROM muskox_expiries
LEFT JOIN muskox_jobs ON muskox_jobs.queue = muskox_expiries.queue AND muskox_jobs.id = muskox_expiries.job
WHERE muskox_expiries.at <= :now
ORDER BY muskox_expiries.at
LIMIT :limit;

-- name: looked_at
DELETE FROM muskox_expiries WHERE at = ? AND queue = ? AND job = ?;

-- name: expire
-- Jobs that nobody has begun with. The attempt is counted, as it is when a worker comes too late, so that one that is
-- retried by hand does not expire again.
UPDATE muskox_jobs
SET state = 5, attempt = 1, ended = :now, due = NULL, token = NULL, lease_until = NULL, waits = NULL,
    line = NULL, failure = :failure
WHERE seq = :seq;

-- name: audit_unexpiring
-- Jobs that nobody has begun with, that have to be begun in time, and that nobody looks at.
SELECT muskox_queues.name, muskox_jobs.id
FROM muskox_jobs JOIN muskox_queues ON muskox_queues.id = muskox_jobs.queue
WHERE muskox_jobs.state < 3 AND muskox_jobs.attempt = 0 AND muskox_jobs.stalls = 0 AND muskox_jobs.started IS NULL
  AND muskox_jobs.options LIKE '%"expires_in":%'
  AND NOT EXISTS (
      SELECT 1 FROM muskox_expiries
      WHERE muskox_expiries.queue = muskox_jobs.queue AND muskox_expiries.job = muskox_jobs.id);
