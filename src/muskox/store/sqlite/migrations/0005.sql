-- readers: 0003
-- Dedup keys: which job of a queue has which. Whether it still counts is told by the job (docs/decisions/dedup.md).

-- `rule`: 0 until it has started · 1 until it has ended · 2 for a window, which is over at `over`.
-- `look` is when clear looks at it, and `later` a job that is added when this one has ended, as JSON.
CREATE TABLE muskox_dedups (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    job TEXT NOT NULL,
    rule INTEGER NOT NULL,
    over INTEGER,
    look INTEGER NOT NULL,
    later TEXT,
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;

CREATE INDEX muskox_dedups_look ON muskox_dedups (look);
CREATE INDEX muskox_dedups_later ON muskox_dedups (queue, job) WHERE later IS NOT NULL;

-- Jobs that have to be begun before a moment, to be looked at then; jobs that may be begun at any time are not here.
CREATE TABLE muskox_expiries (
    at INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (at, queue, job)
) WITHOUT ROWID;
