-- Limits of queues, and the keys in them. A release that knows nothing of them would leave keys behind that are stuck.

-- `limits` and `declared` are core.limits.Limits as JSON. `empty`, when the bucket would have been empty, is in
-- nanoseconds; `held` is until when nothing starts.
CREATE TABLE muskox_limits (
    queue INTEGER PRIMARY KEY,
    limits TEXT NOT NULL,
    declared TEXT,
    empty INTEGER NOT NULL DEFAULT 0,
    held INTEGER
);

-- How many jobs of a key stand in line (state waiting), behind them (blocked) and run. `own` is core.limits.KeyLimits
-- as JSON. `look_at` is when something of it may come to the line that only waits for time.
CREATE TABLE muskox_keys (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    waiting INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    active INTEGER NOT NULL DEFAULT 0,
    own TEXT,
    empty INTEGER NOT NULL DEFAULT 0,
    held INTEGER,
    look_at INTEGER,
    UNIQUE (queue, name)
);
CREATE INDEX muskox_keys_look ON muskox_keys (queue, look_at) WHERE look_at IS NOT NULL;
CREATE INDEX muskox_keys_idle ON muskox_keys (queue) WHERE waiting = 0 AND blocked = 0 AND active = 0 AND own IS NULL;

-- The line of each key.
CREATE INDEX muskox_jobs_line ON muskox_jobs (line, priority DESC, arrival) WHERE state = 2;
