-- readers: 0001
-- Schedules and their ledgers. Releases that know nothing of them work on beside them.

-- `version` is a fence and so grows with every change, also over deleting and adding again. `told` is the number of
-- the latest entry in the ledger; `record` is what the schedule says, as JSON.
CREATE TABLE muskox_schedules (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    next INTEGER,
    last INTEGER,
    last_job TEXT,
    told INTEGER NOT NULL DEFAULT 0,
    added INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    record TEXT NOT NULL
);

CREATE INDEX muskox_schedules_next ON muskox_schedules (next, name) WHERE paused = 0 AND next IS NOT NULL;

CREATE TABLE muskox_ledger (
    schedule INTEGER NOT NULL,
    number INTEGER NOT NULL,
    moment INTEGER NOT NULL,
    told TEXT NOT NULL,
    job TEXT,
    reason TEXT NOT NULL,
    missed INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (schedule, number)
) WITHOUT ROWID;

-- One row: by it other processes see that a schedule was put.
CREATE TABLE muskox_schedules_put (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
);
INSERT INTO muskox_schedules_put (one, version) VALUES (1, 0);
