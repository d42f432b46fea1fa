-- The statements about schedules; all others are in statements.sql.

-- name: schedules_named
SELECT name, version, generation, paused, next, last, last_job, added, changed, record
FROM muskox_schedules
WHERE name IN (SELECT value FROM json_each(:names))
ORDER BY name
LIMIT :limit;

-- name: schedules
SELECT name, version, generation, paused, next, last, last_job, added, changed, record
FROM muskox_schedules
ORDER BY name
LIMIT :limit;

-- name: schedules_due
SELECT name, version, generation, paused, next, last, last_job, added, changed, record
FROM muskox_schedules
WHERE paused = 0 AND next IS NOT NULL AND next <= :now
ORDER BY next, name
LIMIT :limit;

-- name: nearest_schedule
SELECT next FROM muskox_schedules WHERE paused = 0 AND next IS NOT NULL AND next > :now ORDER BY next LIMIT 1;

-- name: put_schedule
INSERT INTO muskox_schedules (name, version, generation, paused, next, last, last_job, added, changed, record)
VALUES (:name, :version, :generation, :paused, :next, :last, :last_job, :now, :now, :record)
ON CONFLICT (name) DO UPDATE
SET version = excluded.version, generation = excluded.generation, paused = excluded.paused, next = excluded.next,
    last = excluded.last, last_job = excluded.last_job, changed = excluded.changed, record = excluded.record;

-- name: drop_entries
DELETE FROM muskox_ledger WHERE schedule = (SELECT id FROM muskox_schedules WHERE name = :name);

-- name: drop_schedule
DELETE FROM muskox_schedules WHERE name = :name;

-- name: mark_put
UPDATE muskox_schedules_put SET version = :version;

-- name: latest_put
SELECT version FROM muskox_schedules_put;

-- name: to_fire
SELECT name, id, version, told, last_job, record FROM muskox_schedules WHERE name IN (SELECT value FROM json_each(:names));

-- name: states
SELECT muskox_jobs.id, muskox_jobs.state
FROM muskox_queues
CROSS JOIN json_each(:ids) AS wanted
CROSS JOIN muskox_jobs ON muskox_jobs.queue = muskox_queues.id AND muskox_jobs.id = wanted.value
WHERE muskox_queues.name = :queue;

-- name: fired
-- :rows is [[id, version, next, last, last job, told], …]; where last or last job is null it stays as it is.
UPDATE muskox_schedules
SET version = json_extract(fired.value, '$[1]'), next = json_extract(fired.value, '$[2]'),
    last = COALESCE(json_extract(fired.value, '$[3]'), last),
    last_job = COALESCE(json_extract(fired.value, '$[4]'), last_job), told = json_extract(fired.value, '$[5]')
FROM json_each(:rows) AS fired
WHERE muskox_schedules.id = json_extract(fired.value, '$[0]');

-- name: tell_moments
-- :rows is [[schedule, number, moment, told, job, reason, missed], …].
INSERT INTO muskox_ledger (schedule, number, moment, told, job, reason, missed, at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'), :now
FROM json_each(:rows);

-- name: trim_ledger
DELETE FROM muskox_ledger WHERE schedule = ? AND number <= ?;

-- name: ledger
SELECT muskox_ledger.moment, muskox_ledger.told, muskox_ledger.job, muskox_ledger.reason, muskox_ledger.missed, muskox_ledger.at
FROM muskox_schedules JOIN muskox_ledger ON muskox_ledger.schedule = muskox_schedules.id
WHERE muskox_schedules.name = :name
ORDER BY muskox_ledger.number DESC
LIMIT :limit;

-- name: audit_schedules
SELECT name, version, generation, next, record FROM muskox_schedules;

-- name: audit_entries
-- Ledgers: their schedule by number and, if it is there, by name; how many entries, the latest number, that of the schedule.
SELECT muskox_ledger.schedule, muskox_schedules.name, count(*), max(muskox_ledger.number), muskox_schedules.told
FROM muskox_ledger LEFT JOIN muskox_schedules ON muskox_schedules.id = muskox_ledger.schedule
GROUP BY muskox_ledger.schedule;
