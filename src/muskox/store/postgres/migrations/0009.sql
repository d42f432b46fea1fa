-- Limits and keys. What they mean is said in core/limits.py, the order of locks in docs/decisions/postgresql.md.

-- What holds for a queue, and how many of its jobs that are counted run. A row is made with the first limit or hold.
-- `gap` is the microseconds from token to token, `size` how many there are at most, `empty` when there would have been
-- none (NULL: never). `sweep`: the defaults of keys have changed, and keys behind this one are still to be looked at.
CREATE TABLE muskox.limits (
    queue integer PRIMARY KEY,
    active integer NOT NULL DEFAULT 0,
    concurrency integer,
    size integer,
    gap double precision,
    empty double precision,
    held_until bigint,
    key_concurrency integer,
    key_size integer,
    key_gap double precision,
    sweep text COLLATE "C",
    record text COLLATE "C" NOT NULL,
    declared text COLLATE "C"
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- A key that has jobs, limits of its own, a hold or a bucket that is not full. `open` jobs stand in line. A concurrency
-- or gap of its own is NULL where the default of the queue holds and 0 where there is no limit. `look_at`: blocked jobs
-- may go on then; `idle_at`: nothing is left of it then, and it is forgotten, as one is that was made for a job that was
-- known already.
CREATE TABLE muskox.keys (
    queue integer NOT NULL,
    open integer NOT NULL DEFAULT 0,
    active integer NOT NULL DEFAULT 0,
    blocked integer NOT NULL DEFAULT 0,
    delayed integer NOT NULL DEFAULT 0,
    weight integer NOT NULL DEFAULT 1,
    concurrency integer,
    size integer,
    gap double precision,
    empty double precision,
    held_until bigint,
    look_at bigint,
    idle_at bigint DEFAULT 0,
    name text COLLATE "C" NOT NULL,
    own text COLLATE "C",
    PRIMARY KEY (queue, name)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX keys_due ON muskox.keys (queue, look_at) WHERE look_at IS NOT NULL;
CREATE INDEX keys_idle ON muskox.keys (idle_at) WHERE idle_at IS NOT NULL;

-- The line of each key.
CREATE INDEX jobs_blocked ON muskox.jobs (queue, key, rank, arrival, seq) WHERE state = 2 AND bound IS NULL;
-- As they were added, to be looked at; its condition keeps the planner from it for the line of a key.
CREATE INDEX jobs_blocked_shown ON muskox.jobs (queue, seq) WHERE state = 2 AND seq > 0;

-- The end of the line: the latest arrival that was given to a job that came from the line of its key.
CREATE SEQUENCE muskox.line;

-- Lock what these jobs are counted in, each by its queue, key, flow and row, what those are that wait for them, and the
-- limits of queues that are about to be held. p_make: also keys of which nothing is left. To be called before any of the
-- jobs is locked.
CREATE FUNCTION muskox.lock_ties(
    p_queues integer[], p_keys text[], p_flows bigint[], p_rows bigint[], p_held integer[] DEFAULT NULL, p_make boolean DEFAULT false
) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_queues integer[];
    v_keys text[];
BEGIN
    IF cardinality(array_remove(p_flows, NULL)) > 0 THEN
        SELECT g.queues, g.keys INTO v_queues, v_keys FROM muskox.lock_graphs(p_flows, p_rows) AS g;
        SELECT v_queues || f.queues, v_keys || f.keys, p_make OR f.keys IS NOT NULL INTO v_queues, v_keys, p_make
        FROM muskox.follower_keys(p_flows) AS f;
    END IF;
    IF cardinality(p_held) > 0 THEN
        INSERT INTO muskox.limits (queue, record) SELECT DISTINCT h.id, '{}' FROM unnest(p_held) AS h (id) ORDER BY 1
        ON CONFLICT DO NOTHING;
    END IF;
    PERFORM FROM muskox.limits AS l
    WHERE l.queue = ANY (p_queues) AND (l.concurrency IS NOT NULL OR l.queue = ANY (p_held))
    ORDER BY l.queue
    FOR UPDATE;
    IF p_make THEN
        PERFORM muskox.lock_keys(p_queues || v_queues, p_keys || v_keys);
    ELSE
        PERFORM muskox.lock_made_keys(p_queues || v_queues, p_keys || v_keys);
    END IF;
END
$$;

-- Lock those keys that there are.
CREATE FUNCTION muskox.lock_made_keys(p_queues integer[], p_keys text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM FROM (
        SELECT DISTINCT w.queue, w.name COLLATE "C" AS name FROM unnest(p_queues, p_keys) AS w (queue, name)
        WHERE w.name IS NOT NULL
    ) AS w
    JOIN muskox.keys AS k ON k.queue = w.queue AND k.name = w.name
    ORDER BY k.queue, k.name
    FOR UPDATE OF k;
END
$$;

-- Lock keys, made where there are none; one that comes to nothing, as for a job that is there already, is forgotten.
-- What is there is locked by the conflict and not written.
CREATE FUNCTION muskox.lock_keys(p_queues integer[], p_keys text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    INSERT INTO muskox.keys (queue, name, idle_at)
    SELECT DISTINCT w.queue, w.name COLLATE "C", 0 FROM unnest(p_queues, p_keys) AS w (queue, name)
    WHERE w.name IS NOT NULL
    ORDER BY 1, 2
    ON CONFLICT (queue, name) DO UPDATE SET name = excluded.name WHERE false;
END
$$;

-- Lock those keys that nobody else is at, without waiting; whether that leaves some out.
CREATE FUNCTION muskox.try_keys(p_queues integer[], p_keys text[])
RETURNS TABLE (queues integer[], keys text[], missed boolean) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    SELECT array_agg(l.queue), array_agg(l.name), COALESCE(count(*) < max(l.wanted), true)
    FROM (
        SELECT k.queue, k.name, w.wanted
        FROM (
            SELECT w.*, count(*) OVER () AS wanted
            FROM (
                SELECT DISTINCT w.queue, w.name COLLATE "C" AS name FROM unnest(p_queues, p_keys) AS w (queue, name)
                WHERE w.name IS NOT NULL
            ) AS w
        ) AS w
        JOIN muskox.keys AS k ON k.queue = w.queue AND k.name = w.name
        FOR UPDATE OF k SKIP LOCKED
    ) AS l;
END
$$;

-- Keys with what holds for each, its own or the default of its queue.
CREATE VIEW muskox.bounds AS
SELECT k.ctid AS tid, k.queue, k.name, k.open, k.active, k.blocked, k.delayed, 16 * k.weight AS most, k.empty,
       k.held_until, k.own, NULLIF(COALESCE(k.concurrency, l.key_concurrency), 0) AS concurrency,
       CASE WHEN k.gap IS NULL THEN l.key_gap ELSE NULLIF(k.gap, 0) END AS gap,
       CASE WHEN k.gap IS NULL THEN l.key_size ELSE k.size END AS size
FROM muskox.keys AS k LEFT JOIN muskox.limits AS l ON l.queue = k.queue;

-- How keys stand: how many of each may be open (at most `most`, and `may` unless that is NULL) and are, and how many are
-- blocked.
CREATE FUNCTION muskox.rooms(p_now bigint, p_queues integer[], p_keys text[])
RETURNS TABLE (queue integer, name text, open integer, blocked integer, most integer, may integer) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT k.queue, k.name, k.open, k.blocked, k.most,
           CASE
               WHEN k.held_until > p_now THEN 0
               ELSE least(k.concurrency - k.active, k.size, floor(
                        (p_now - CASE WHEN k.empty > p_now THEN p_now ELSE k.empty END) / k.gap + 0.000001))
           END::integer
    FROM (SELECT DISTINCT u.queue, u.name FROM unnest(p_queues, p_keys) AS u (queue, name) WHERE u.name IS NOT NULL) AS u
    JOIN muskox.bounds AS k ON k.queue = u.queue AND k.name = u.name;
END
$$;

-- Change the figures of locked keys, start as many as may of the open jobs that are wanted and block the others again,
-- and let as many blocked jobs stand in line as may by then: the first of each key, then the second, behind all that
-- stand there. Tells of those and gives them, and of keys of which not all that are wanted start, how many do. An array
-- of changes may be NULL for none, and a key may be named several times. `missed` are queues of which a job could not
-- be let in, since somebody is at it: its key is looked at by the next claim.
CREATE FUNCTION muskox.open_keys(
    p_now bigint, p_queues integer[], p_keys text[], p_open integer[], p_active integer[], p_blocked integer[],
    p_delayed integer[], p_wanted integer[]
) RETURNS TABLE (
    opened muskox.move[], short_queues integer[], short_keys text[], short_go integer[], missed integer[]
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_line bigint;
    v_found bigint[];
    v_done bigint[];
BEGIN
    SELECT greatest(last_value, p_now) INTO v_line FROM muskox.line;
    WITH change AS (
        SELECT u.queue, u.name, min(u.place) AS place, COALESCE(sum(u.open), 0)::integer AS open,
               COALESCE(sum(u.active), 0)::integer AS active, COALESCE(sum(u.blocked), 0)::integer AS blocked,
               COALESCE(sum(u.delayed), 0)::integer AS delayed, COALESCE(sum(u.wanted), 0)::integer AS wanted
        FROM unnest(p_queues, p_keys, p_open, p_active, p_blocked, p_delayed, p_wanted) WITH ORDINALITY
             AS u (queue, name, open, active, blocked, delayed, wanted, place)
        WHERE u.name IS NOT NULL
        GROUP BY u.queue, u.name
    ), after AS (
        SELECT c.place, c.wanted, g.go, k.tid, k.queue, k.name, k.open + c.open - c.wanted AS open,
               k.active + c.active + g.go AS active, k.blocked + c.blocked + c.wanted - g.go AS blocked,
               k.delayed + c.delayed AS delayed, least(k.most, m.may - g.go) AS most, b.empty + g.go * k.gap AS empty,
               k.gap, k.size, k.concurrency - k.active - c.active - g.go AS slots, k.own, k.blocked = 0 AS fresh,
               CASE WHEN k.held_until > p_now THEN k.held_until END AS held_until, k.most AS line
        FROM change AS c
        JOIN muskox.bounds AS k ON k.queue = c.queue AND k.name = c.name
        -- An `empty` after now comes from before the clock was set back.
        CROSS JOIN LATERAL (
            SELECT greatest(CASE WHEN k.empty > p_now THEN p_now ELSE k.empty END, p_now - k.size * k.gap) AS empty
        ) AS b
        -- A millionth of a token is forgiven: gaps may be fractions, whose sums are a little off.
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN k.held_until > p_now THEN 0
                ELSE least(k.concurrency - k.active - c.active, k.size, floor((p_now - b.empty) / k.gap + 0.000001))
            END::integer AS may
        ) AS m
        CROSS JOIN LATERAL (
            SELECT CASE WHEN c.wanted = 0 THEN 0 ELSE greatest(0, least(c.wanted, m.may)) END AS go
        ) AS g
    ), room AS MATERIALIZED (
        SELECT o.*, COALESCE(cardinality(o.tids), 0) AS more
        FROM (
            SELECT a.*, CASE
                WHEN a.blocked <= 0 OR a.most <= a.open THEN NULL
                -- All that are blocked have come together, and the first of them found room.
                WHEN a.fresh THEN ARRAY(
                    SELECT j.ctid FROM muskox.jobs AS j
                    WHERE j.queue = a.queue AND j.key = a.name AND j.state = 2 AND j.bound IS NULL
                    ORDER BY j.arrival, j.seq LIMIT a.most - a.open)
                ELSE ARRAY(
                    SELECT j.ctid FROM muskox.jobs AS j
                    WHERE j.queue = a.queue AND j.key = a.name AND j.state = 2 AND j.bound IS NULL
                    ORDER BY j.rank, j.arrival, j.seq LIMIT a.most - a.open)
            END AS tids, CASE
                WHEN a.open + a.active + a.blocked + a.delayed = 0 AND a.own IS NULL
                THEN greatest(p_now, a.held_until, ceil(a.empty + a.size * a.gap))
            END AS idle_at
            FROM after AS a
        ) AS o
    ), found AS MATERIALIZED (
        SELECT t.tid, t.nth, r.place, row_number() OVER (ORDER BY t.nth, r.place) AS number
        FROM room AS r CROSS JOIN LATERAL unnest(r.tids) WITH ORDINALITY AS t (tid, nth)
    ), free AS MATERIALIZED (
        -- Nobody is waited for: a claim that saw a job in line keeps its row locked though it has been blocked since, and
        -- may be waiting for one that this transaction keeps in the same way.
        SELECT f.tid, f.nth, f.place, f.number
        FROM found AS f JOIN muskox.jobs AS j ON j.ctid = f.tid
        WHERE j.state + 0 = 2
        FOR UPDATE OF j SKIP LOCKED
    ), let_in AS (
        UPDATE muskox.jobs AS j SET state = 0, stood = j.arrival, arrival = v_line + f.number
        -- None before those that come first in the line of their key.
        FROM (SELECT f.*, row_number() OVER (PARTITION BY f.place ORDER BY f.nth) AS nth_free FROM free AS f) AS f
        WHERE j.ctid = f.tid AND f.nth_free = f.nth
        RETURNING ROW(j.seq, j.queue, j.lane, j.attempt, 2, 0, NULL, j.id, j.key, j.flow)::muskox.move AS move, f.number, f.place
    ), forgotten AS (
        DELETE FROM muskox.keys AS k USING room AS r WHERE k.ctid = r.tid AND r.idle_at <= p_now
    ), kept AS (
        UPDATE muskox.keys AS k
        SET open = r.open + r.more, active = r.active, blocked = r.blocked - r.more, delayed = r.delayed,
            empty = r.empty, held_until = r.held_until,
            look_at = CASE
                WHEN r.blocked <= r.more OR r.open + r.more >= r.line THEN NULL
                WHEN r.held_until IS NOT NULL THEN r.held_until
                WHEN r.open + r.more >= r.slots OR r.open + r.more >= r.size THEN NULL
                ELSE ceil(r.empty + (r.open + r.more + 1) * r.gap)
            END,
            idle_at = r.idle_at
        FROM room AS r
        WHERE k.ctid = r.tid AND (r.idle_at <= p_now) IS NOT TRUE
    )
    SELECT (SELECT array_agg(f.place) FROM found AS f), (SELECT array_agg(o.place) FROM let_in AS o),
           (SELECT array_agg(o.move ORDER BY o.number) FROM let_in AS o), s.queues, s.keys, s.go
    INTO v_found, v_done, opened, short_queues, short_keys, short_go
    FROM (
        SELECT array_agg(r.queue) AS queues, array_agg(r.name) AS keys, array_agg(r.go) AS go
        FROM room AS r WHERE r.go < r.wanted
    ) AS s;

    IF cardinality(v_found) > COALESCE(cardinality(v_done), 0) THEN
        -- Somebody is at the row of a job, or was changing its data in this moment: whoever claims next looks again.
        WITH later AS (
            UPDATE muskox.keys AS k
            SET open = k.open - m.missed, blocked = k.blocked + m.missed, look_at = p_now
            FROM (
                SELECT p_queues[u.place] AS queue, p_keys[u.place] AS name, count(*)::integer AS missed
                FROM (SELECT unnest(v_found) EXCEPT ALL SELECT unnest(v_done)) AS u (place)
                GROUP BY u.place
            ) AS m
            WHERE k.queue = m.queue AND k.name = m.name
            RETURNING k.queue
        )
        SELECT array_agg(DISTINCT l.queue) INTO missed FROM later AS l;
    END IF;
    IF opened IS NOT NULL THEN
        PERFORM setval('muskox.line', v_line + cardinality(v_found));
        PERFORM muskox.tell_moves(p_now, 'waiting', opened);
    END IF;
    RETURN NEXT;
END
$$;

-- Count moves that were made, and tell of them but for those to blocked.
CREATE FUNCTION muskox.tell_moves(p_now bigint, p_kind text, p_moves muskox.move[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    INSERT INTO muskox.pending (size, lane, moved, source, target)
    SELECT 0, m.lane, count(*), m.source, m.target FROM unnest(p_moves) AS m GROUP BY m.lane, m.source, m.target;
    WITH told AS (
        INSERT INTO muskox.events (at, queue, size, kind, body)
        SELECT p_now, m.queue, count(*), p_kind,
               '[' || string_agg('[' || to_json(m.id)::text || ',' || l.label || ',' || m.attempt || ']', ',' ORDER BY m.ordinality) || ']'
        FROM unnest(p_moves) WITH ORDINALITY AS m
        JOIN muskox.lanes AS l ON l.id = m.lane
        WHERE m.target IS DISTINCT FROM 2 AND p_kind IS NOT NULL
        GROUP BY m.queue, m.lane
        RETURNING id, size
    )
    INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
END
$$;

-- Tell of jobs that are blocked; their moves are counted elsewhere.
CREATE FUNCTION muskox.tell_blocked(p_now bigint, p_moves muskox.move[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    PERFORM muskox.tell_moved(
        p_now, 'blocked', NULL, NULL, ARRAY(SELECT m.queue FROM unnest(p_moves) AS m),
        ARRAY(SELECT m.lane FROM unnest(p_moves) AS m), ARRAY(SELECT m.id FROM unnest(p_moves) AS m),
        ARRAY(SELECT m.attempt FROM unnest(p_moves) AS m), NULL);
END
$$;

-- What follows from moves of jobs that somebody is tied to, once they are written: all that wait, leave or end come by
-- here. Moves are counted and told by whoever makes them, but for jobs that stay blocked, of which this tells.
-- Gives the queues in which a job may be claimed that could not before, and the rows that were let into line.
CREATE FUNCTION muskox.follow(p_now bigint, p_moves muskox.move[])
RETURNS TABLE (queues integer[], opened bigint[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_change record;
    v_opened muskox.move[];
    v_blocked muskox.move[];
    v_more muskox.move[];
    v_missed integer[];
BEGIN
    IF EXISTS (SELECT FROM unnest(p_moves) AS m WHERE m.flow IS NOT NULL) THEN
        v_more := muskox.follow_flows(p_now, p_moves);
        p_moves := p_moves || v_more;
    END IF;
    SELECT array_agg(m.queue) FILTER (WHERE m.counted AND m.source = 3) AS freed,
           array_agg(m.queue) FILTER (WHERE m.key IS NOT NULL) AS queues,
           array_agg(m.key) FILTER (WHERE m.key IS NOT NULL) AS keys,
           array_agg((m.target IS NOT DISTINCT FROM 0)::integer - (m.source IS NOT DISTINCT FROM 0)::integer)
               FILTER (WHERE m.key IS NOT NULL) AS open,
           array_agg((m.target IS NOT DISTINCT FROM 3)::integer - (m.source IS NOT DISTINCT FROM 3)::integer)
               FILTER (WHERE m.key IS NOT NULL) AS active,
           array_agg((m.target IS NOT DISTINCT FROM 2)::integer - (m.source IS NOT DISTINCT FROM 2)::integer)
               FILTER (WHERE m.key IS NOT NULL) AS blocked,
           array_agg((m.target IS NOT DISTINCT FROM 1)::integer - (m.source IS NOT DISTINCT FROM 1)::integer)
               FILTER (WHERE m.key IS NOT NULL) AS delayed
    INTO v_change
    FROM unnest(p_moves) AS m;
    IF v_change.freed IS NOT NULL THEN
        WITH freed AS (
            SELECT f.queue, count(*) AS slots FROM unnest(v_change.freed) AS f (queue) GROUP BY f.queue
        ), kept AS (
            UPDATE muskox.limits AS l SET active = l.active - f.slots
            FROM freed AS f
            WHERE l.queue = f.queue AND l.concurrency IS NOT NULL
            RETURNING l.queue, l.active + f.slots >= l.concurrency AS was_full
        )
        SELECT array_agg(k.queue) FILTER (WHERE k.was_full) INTO queues FROM kept AS k;
    END IF;
    IF v_change.keys IS NOT NULL THEN
        SELECT k.opened, k.missed INTO v_opened, v_missed
        FROM muskox.open_keys(p_now, v_change.queues, v_change.keys, v_change.open, v_change.active, v_change.blocked,
                              v_change.delayed, NULL) AS k;
        SELECT queues || array_agg(DISTINCT o.queue) || v_missed, array_agg(o.seq) INTO queues, opened FROM unnest(v_opened) AS o;
        SELECT array_agg(m::muskox.move) INTO v_blocked
        FROM unnest(p_moves) AS m
        WHERE m.target = 2 AND m.key IS NOT NULL AND m.seq <> ALL (COALESCE(opened, '{}'));
        IF v_blocked IS NOT NULL THEN
            PERFORM muskox.tell_blocked(p_now, v_blocked);
        END IF;
    END IF;
    IF v_more IS NOT NULL THEN
        queues := queues || ARRAY(SELECT DISTINCT m.queue FROM unnest(v_more) AS m WHERE m.target = 0);
    END IF;
    RETURN NEXT;
END
$$;
