-- The tables of the first release.
--
-- states: 0 waiting · 1 delayed · 2 blocked · 3 active · 4 completed · 5 failed · 6 cancelled
-- moments are microseconds since 1970, UTC.
-- The schema's name stands for the one that the URL asks for; nothing depends on the search path.

CREATE SCHEMA IF NOT EXISTS muskox;

-- One row. `id` tells this store from all others, `event` is the offset that the next event is given.
CREATE TABLE muskox.meta (
    one integer PRIMARY KEY CHECK (one = 1),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    event bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO muskox.meta (one, event) VALUES (1, 1);

-- What must be shared without a lock that lasts until a commit is kept in sequences: the latest moment known,
-- the fences, and the turns of queues and of age.
CREATE SEQUENCE muskox.clock;
CREATE SEQUENCE muskox.tokens;
-- Has a row until the server crashes: then the sequence may have gone back over fences that were given to claims which
-- the crash has undone as well, and whose runs go on.
CREATE UNLOGGED TABLE muskox.awake (since bigint NOT NULL);
CREATE SEQUENCE muskox.turns;

CREATE TABLE muskox.queues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    -- Whether there is a row of limits, and whether there has been a job with a key: else nobody looks.
    limited boolean NOT NULL DEFAULT false,
    keyed boolean NOT NULL DEFAULT false
);

-- A lane is one job name in one queue. Lanes are never deleted. `label` is the name as JSON.
CREATE TABLE muskox.lanes (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    label text NOT NULL,
    UNIQUE (queue, name)
);

-- How many jobs of a lane are in each state, and were ever added, as of the latest gathering; `pending` holds what came since.
CREATE TABLE muskox.figures (
    lane integer PRIMARY KEY,
    waiting bigint NOT NULL DEFAULT 0,
    delayed bigint NOT NULL DEFAULT 0,
    blocked bigint NOT NULL DEFAULT 0,
    active bigint NOT NULL DEFAULT 0,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    added bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- `rank` is the priority, negated: so the order of claiming is one ascending order of an index.
-- `seq` is the order of adding. Claims and settlements find a row by its place (ctid), so there is no index on it.
-- `tied`: somebody waits for its end, and `follow` has to know. `counted`: it is among the active jobs that the limits of
-- its queue count. `stood` is the arrival that a job had in the line of its key before it came to stand in the queue's.
-- `flow` is the flow or batch that it is in, `bound`: it is blocked by its parents there, and not by its key.
CREATE TABLE muskox.jobs (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    arrival bigint NOT NULL,
    added bigint NOT NULL,
    due bigint,
    started bigint,
    ended bigint,
    clear_at bigint,
    lease_until bigint,
    token bigint,
    stood bigint,
    flow bigint,
    queue integer NOT NULL,
    lane integer NOT NULL,
    rank integer NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    attempts integer,
    stalls integer NOT NULL DEFAULT 0,
    max_stalls integer,
    releases integer NOT NULL DEFAULT 0,
    state smallint NOT NULL,
    tied boolean,
    counted boolean,
    bound boolean,
    key text COLLATE "C",
    id text COLLATE "C" NOT NULL,
    worker text COLLATE "C",
    ticket text COLLATE "C",
    options text COLLATE "C",
    data text COLLATE "C" NOT NULL,
    progress text COLLATE "C",
    result text COLLATE "C",
    failure text COLLATE "C",
    steps text COLLATE "C",
    PRIMARY KEY (queue, id)
) WITH (
    -- A claim and a settlement each leave a dead row behind, mostly on the page on which the new one finds room.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.05
);

-- A move of a job, as functions tell each other; `source` and `target` are states, NULL outside of the store.
CREATE TYPE muskox.move AS (
    seq bigint, queue integer, lane integer, attempt integer, source smallint, target smallint, counted boolean,
    id text COLLATE "C", key text COLLATE "C", flow bigint
);

CREATE INDEX jobs_waiting ON muskox.jobs (lane, rank, arrival, seq) WHERE state = 0;
CREATE INDEX jobs_delayed ON muskox.jobs (due, seq) WHERE state = 1;
CREATE INDEX jobs_active ON muskox.jobs (lease_until) WHERE state = 3;
CREATE INDEX jobs_ended ON muskox.jobs (queue, state, ended, seq) WHERE ended IS NOT NULL;
CREATE INDEX jobs_kept ON muskox.jobs (clear_at) WHERE clear_at IS NOT NULL;

CREATE TABLE muskox.logs (
    job bigint NOT NULL,
    number integer NOT NULL,
    at bigint NOT NULL,
    text text COLLATE "C" NOT NULL,
    PRIMARY KEY (job, number)
);

-- One record for all jobs that made the same move together. It is written with the move and has no offset yet,
-- since an offset would be a lock that every producer waits for.
CREATE TABLE muskox.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    queue integer NOT NULL,
    size integer NOT NULL,
    kind text COLLATE "C" NOT NULL,
    body text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
-- Compressing the body of a large record would take longer than all the rest of a claim.
ALTER TABLE muskox.events ALTER COLUMN body SET STORAGE EXTERNAL;

-- Where the records stand: offsets first … first + size - 1, given by `gather`.
CREATE TABLE muskox.offsets (
    first bigint PRIMARY KEY,
    event bigint NOT NULL,
    size integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

-- What is not gathered yet: events without an offset, and jobs that went from state `source` to `target`
-- (NULL: from or to outside of the store). Only inserted and deleted, so that nobody waits for anybody.
CREATE TABLE muskox.pending (
    event bigint,
    size integer NOT NULL,
    lane integer,
    moved integer NOT NULL,
    source smallint,
    target smallint
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = -1
);

-- Claims that had a ticket, for as long as it may be said again.
CREATE TABLE muskox.tickets (
    worker text COLLATE "C" NOT NULL,
    ticket text COLLATE "C" NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (worker, ticket)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Who would like to be woken for a queue, or with an empty name for events, by the server's clock and in nobody's world.
CREATE TABLE muskox.waits (
    waiter text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (waiter, queue)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

CREATE TABLE muskox.workers (
    id text COLLATE "C" PRIMARY KEY,
    at bigint NOT NULL,
    record text COLLATE "C" NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
