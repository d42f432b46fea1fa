-- What is asked about schedules; everything that writes is a function in migrations/0008.sql.

-- name: read_schedules
SELECT name, version, generation, paused, next, last, last_job, added, changed, record
FROM muskox.read_schedules(%s, %s, %s, %s);

-- name: put_schedules
SELECT made, bells FROM muskox.put_schedules(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: fire
SELECT won, owners, known, bells
FROM muskox.fire(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: ledger
SELECT g.moment, g.told, g.job, g.reason, g.missed, g.at
FROM muskox.schedules AS s JOIN muskox.ledger AS g ON g.schedule = s.id
WHERE s.name = %s
ORDER BY g.number DESC
LIMIT %s;

-- name: audit_schedules
SELECT s.name, s.version, s.generation, s.next, s.queue, s.overlap, s.record FROM muskox.schedules AS s;

-- name: audit_entries
-- Ledgers that do not fit: their schedule, how many entries they have and up to which number, and how many were told.
SELECT COALESCE(s.name, 'of row ' || g.schedule), g.entries, g.latest, s.told
FROM (SELECT schedule, count(*) AS entries, max(number) AS latest FROM muskox.ledger GROUP BY schedule) AS g
LEFT JOIN muskox.schedules AS s ON s.id = g.schedule
WHERE s.id IS NULL OR g.entries > %s OR g.latest <> s.told;
