-- The tables of the first release.
--
-- states: 0 waiting · 1 delayed · 2 blocked · 3 active · 4 completed · 5 failed · 6 cancelled
-- moments are microseconds since 1970, UTC.

-- Every name begins with muskox_, since the file may hold an application's own tables too.

-- One row: the fence and the clock of the store, and the next event's offset.
CREATE TABLE muskox_meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    token INTEGER NOT NULL,
    clock INTEGER NOT NULL,
    event INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    -- Whether there are queues that bound how many jobs wait in them.
    bounded INTEGER NOT NULL DEFAULT 0
);
INSERT INTO muskox_meta (one, token, clock, event, turn) VALUES (1, 0, 0, 1, 0);

-- limited: 1 has limits or a hold of its own · 2 has had keys; the sum of them.
CREATE TABLE muskox_queues (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    limited INTEGER NOT NULL DEFAULT 0
);

-- A lane is one job name in one queue; its figures are kept up with every move.
CREATE TABLE muskox_lanes (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    waiting INTEGER NOT NULL DEFAULT 0,
    delayed INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    active INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, name)
);

-- `line` is the row in muskox_keys of the key in whose line the job stands, or whose slot it has. Of one that is delayed
-- or has ended it says nothing; one that waits for parents has none.
CREATE TABLE muskox_jobs (
    seq INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    id TEXT NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    arrival INTEGER NOT NULL,
    due INTEGER,
    token INTEGER,
    lease_until INTEGER,
    worker TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER,
    stalls INTEGER NOT NULL DEFAULT 0,
    max_stalls INTEGER,
    releases INTEGER NOT NULL DEFAULT 0,
    added INTEGER NOT NULL,
    started INTEGER,
    ended INTEGER,
    clear_at INTEGER,
    key TEXT,
    line INTEGER,
    flow INTEGER,
    node INTEGER,
    waits INTEGER,
    options TEXT,
    data TEXT NOT NULL,
    progress TEXT,
    result TEXT,
    failure TEXT,
    steps TEXT
);

CREATE UNIQUE INDEX muskox_jobs_id ON muskox_jobs (queue, id);
CREATE INDEX muskox_jobs_waiting ON muskox_jobs (lane, priority DESC, arrival) WHERE state = 0;
CREATE INDEX muskox_jobs_delayed ON muskox_jobs (due) WHERE state = 1;
CREATE INDEX muskox_jobs_blocked ON muskox_jobs (queue, arrival) WHERE state = 2;
CREATE INDEX muskox_jobs_active ON muskox_jobs (lease_until) WHERE state = 3;
-- Not "state >= 4": the planner would then search by that and sort.
CREATE INDEX muskox_jobs_ended ON muskox_jobs (queue, state, ended) WHERE ended IS NOT NULL;
-- The jobs of flows and batches, those that have not ended apart; see 0006.sql. Neither is touched by a claim.
CREATE INDEX muskox_jobs_flow ON muskox_jobs (flow, seq) WHERE flow IS NOT NULL AND ended IS NULL;
CREATE INDEX muskox_jobs_flow_ended ON muskox_jobs (flow, seq) WHERE flow IS NOT NULL AND ended IS NOT NULL;
CREATE INDEX muskox_jobs_kept ON muskox_jobs (clear_at) WHERE clear_at IS NOT NULL;

CREATE TABLE muskox_logs (
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

-- One record for all jobs that made the same move together, at the offsets first … first + size - 1.
CREATE TABLE muskox_events (
    first INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE muskox_workers (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    record TEXT NOT NULL
);
