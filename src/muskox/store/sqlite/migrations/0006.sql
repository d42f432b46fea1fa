-- readers: 0003
-- Flows and batches: docs/decisions/flows.md. A job says in `flow` to which one it belongs, in `node` which node of it
-- it is, and in `waits` how many of its parents have not ended while it is blocked by them, else NULL.

-- `kind`: 0 flow · 1 batch. `stopped`: it was cancelled as a whole. `look` is when clear looks whether it can go.
CREATE TABLE muskox_flows (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    open INTEGER NOT NULL,
    stopped INTEGER NOT NULL DEFAULT 0,
    added INTEGER NOT NULL,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    ended INTEGER,
    look INTEGER,
    completed_job TEXT,
    settled_job TEXT,
    completed_added INTEGER NOT NULL DEFAULT 0,
    settled_added INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX muskox_flows_unended ON muskox_flows (id) WHERE ended IS NULL;
CREATE INDEX muskox_flows_look ON muskox_flows (look) WHERE look IS NOT NULL;

-- A job of a flow of kind flow, at row `seq` while it is there, and how it ended. `delay` counts from the end of its
-- parents.
CREATE TABLE muskox_nodes (
    id INTEGER PRIMARY KEY,
    flow INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    job TEXT NOT NULL,
    delay INTEGER NOT NULL,
    state INTEGER,
    result TEXT,
    failure TEXT
);

CREATE INDEX muskox_nodes_job ON muskox_nodes (flow, queue, job);

-- `on_failure`: fail, continue, ignore.
CREATE TABLE muskox_edges (
    child INTEGER NOT NULL,
    place INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    name TEXT NOT NULL,
    on_failure TEXT NOT NULL,
    PRIMARY KEY (child, place)
) WITHOUT ROWID;

CREATE INDEX muskox_edges_parent ON muskox_edges (parent);
