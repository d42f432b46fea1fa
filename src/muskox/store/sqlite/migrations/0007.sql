-- readers: 0003
-- What was counted by the minute, and how many jobs were ever added.

ALTER TABLE muskox_lanes ADD COLUMN added INTEGER NOT NULL DEFAULT 0;

-- A cell of `step` seconds from `at` (microseconds) on; `name` '' is the whole queue. `sums` and `peaks` are figures by
-- name as JSON, of which the first are added up and of the others the highest is kept.
CREATE TABLE muskox_history (
    step INTEGER NOT NULL,
    at INTEGER NOT NULL,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    sums TEXT NOT NULL,
    peaks TEXT NOT NULL,
    PRIMARY KEY (step, at, queue, name)
) WITHOUT ROWID;

-- The one row: when the latest sample was taken, and how many jobs of each queue had been added by then, as JSON.
CREATE TABLE muskox_sampled (at INTEGER NOT NULL, added TEXT NOT NULL);
INSERT INTO muskox_sampled (at, added) VALUES (0, '{}');
