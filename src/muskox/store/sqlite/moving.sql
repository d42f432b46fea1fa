-- The statements of moving house; all others are in statements.sql.

-- name: lines_of
SELECT job, number, at, text FROM muskox_logs WHERE job IN (SELECT value FROM json_each(:seqs)) ORDER BY job, number;

-- name: adopt_job
-- A job as it was in another store; a known id is left as it is.
INSERT INTO muskox_jobs (queue, lane, id, state, priority, arrival, due, attempt, attempts, stalls, max_stalls, releases,
                         added, started, ended, clear_at, options, data, progress, result, failure, steps, key)
VALUES (:queue, :lane, :id, :state, :priority, :arrival, :due, :attempt, :attempts, :stalls, :max_stalls, :releases,
        :added, :started, :ended, :clear_at, :options, :data, :progress, :result, :failure, :steps, :key)
ON CONFLICT (queue, id) DO NOTHING
RETURNING seq;

-- name: adopt_line
INSERT INTO muskox_logs (job, number, at, text) VALUES (:seq, :number, :at, :text);
