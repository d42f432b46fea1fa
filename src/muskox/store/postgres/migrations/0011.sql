-- Flows and batches; docs/decisions/flows.md says what they mean.
--
-- Locks: the record of a flow whose jobs wait for one another comes before keys and jobs, so whoever has it is alone with
-- all of its graph. The record of a batch comes after them, for its figures only: settlements of one batch do not wait for
-- each other until they are nearly done.

-- `graph`: a flow, else a batch. `stopped`: cancelled as a whole, so that its jobs are cancelled where they would fail.
-- What follows it is kept as JSON, and whether that is over; `look` is when clear looks whether it can go.
CREATE TABLE muskox.flows (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    added bigint NOT NULL,
    ended bigint,
    look bigint,
    total bigint NOT NULL DEFAULT 0,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    graph boolean NOT NULL,
    open boolean NOT NULL DEFAULT true,
    stopped boolean NOT NULL DEFAULT false,
    completed_added boolean NOT NULL DEFAULT false,
    settled_added boolean NOT NULL DEFAULT false,
    id text COLLATE "C" NOT NULL UNIQUE,
    completed_job text COLLATE "C",
    settled_job text COLLATE "C"
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX flows_unended ON muskox.flows (number) WHERE ended IS NULL;
CREATE INDEX flows_look ON muskox.flows (look) WHERE look IS NOT NULL;

-- A job of a flow with a graph, by the number of its row, and how it ended; it outlasts the job. `waits` is the number of
-- its parents that have not ended, NULL when it is not blocked by any.
CREATE TABLE muskox.nodes (
    seq bigint PRIMARY KEY,
    flow bigint NOT NULL,
    delay bigint NOT NULL,
    queue integer NOT NULL,
    waits integer,
    state smallint,
    removed boolean NOT NULL DEFAULT false,
    id text COLLATE "C" NOT NULL,
    key text COLLATE "C",
    result text COLLATE "C",
    failure text COLLATE "C"
) WITH (fillfactor = 80);

CREATE INDEX nodes_job ON muskox.nodes (flow, queue, id, seq);

-- A child and one of its parents. `meaning` is that of the parent's failure: 0 fail, 1 continue, 2 ignore.
CREATE TABLE muskox.edges (
    child bigint NOT NULL,
    parent bigint NOT NULL,
    place integer NOT NULL,
    meaning smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (child, place)
);

CREATE INDEX edges_parent ON muskox.edges (parent);

-- The jobs of a flow or batch that are still there.
CREATE INDEX jobs_flow ON muskox.jobs (flow, state, seq) WHERE flow IS NOT NULL;

-- Lock the graphs of these flows; gives the keys of those that wait for these jobs.
CREATE FUNCTION muskox.lock_graphs(p_flows bigint[], p_seqs bigint[])
RETURNS TABLE (queues integer[], keys text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM FROM muskox.flows AS f WHERE f.number = ANY (p_flows) AND f.graph ORDER BY f.number FOR UPDATE;
    IF FOUND THEN
        SELECT array_agg(c.queue), array_agg(c.key) INTO queues, keys
        FROM unnest(p_seqs) AS p (seq)
        JOIN muskox.edges AS e ON e.parent = p.seq
        JOIN muskox.nodes AS c ON c.seq = e.child AND c.waits IS NOT NULL AND c.key IS NOT NULL;
    END IF;
    RETURN NEXT;
END
$$;

-- Why a job fails because of a parent, as core/flows.parent_failure says it.
CREATE FUNCTION muskox.parent_failure(p_queue integer, p_id text, p_state smallint, p_removed boolean, p_failure text)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object('kind', 'parent', 'type', 'ParentFailed', 'message', left(
        format('its parent %s in queue %s ', p_id, (SELECT q.name FROM muskox.queues AS q WHERE q.id = p_queue))
        || CASE
            WHEN p_state = 5 AND p_failure IS NULL THEN 'failed'
            WHEN p_state = 5 THEN 'failed: ' || COALESCE(NULLIF(f.said ->> 'type', '') || ': ', '') || COALESCE(f.said ->> 'message', '')
            WHEN p_removed THEN 'was removed before it ended'
            ELSE 'was cancelled'
        END, 1000))::text
    -- Of an escaped NUL nothing can be made but its picture.
    FROM (SELECT replace(p_failure, '\u0000', '\u2400')::json AS said) AS f
$$;

-- Go down the line from nodes that have ended, whose outcome is written: children whose last parent that is come to wait,
-- others fail or are cancelled, which is an end again. p_doomed and p_free are nodes for which that is decided already.
-- Gives the moves of jobs, counted and told of but for what keys make of them.
CREATE FUNCTION muskox.resolve(p_now bigint, p_ended bigint[], p_doomed bigint[], p_free bigint[])
RETURNS muskox.move[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_level bigint[] := p_ended || p_doomed;
    v_doomed bigint[] := p_doomed;
    v_free bigint[] := p_free;
    v_now_free bigint[];
    v_moves muskox.move[];
    v_failures text[];
    v_cancelled muskox.move[];
BEGIN
    WHILE cardinality(v_level) > 0 LOOP
        WITH told AS (
            SELECT e.child, count(*)::integer AS less, min(e.place) FILTER (WHERE n.state <> 4 AND e.meaning = 0) AS place
            FROM unnest(v_level) AS l (seq)
            JOIN muskox.nodes AS n ON n.seq = l.seq JOIN muskox.edges AS e ON e.parent = n.seq
            GROUP BY e.child
        ), child AS (
            UPDATE muskox.nodes AS c
            SET waits = CASE WHEN t.place IS NULL THEN NULLIF(c.waits - t.less, 0) END,
                state = CASE WHEN t.place IS NOT NULL THEN CASE WHEN f.stopped THEN 6 ELSE 5 END END,
                failure = CASE WHEN t.place IS NOT NULL AND NOT f.stopped
                          THEN muskox.parent_failure(p.queue, p.id, p.state, p.removed, p.failure) END
            FROM told AS t
            LEFT JOIN muskox.edges AS w ON w.child = t.child AND w.place = t.place
            LEFT JOIN muskox.nodes AS p ON p.seq = w.parent
            LEFT JOIN muskox.flows AS f ON f.number = p.flow
            WHERE c.seq = t.child AND c.waits IS NOT NULL
            RETURNING c.seq, c.waits, c.state
        )
        SELECT array_agg(c.seq) FILTER (WHERE c.state IS NOT NULL),
               array_agg(c.seq) FILTER (WHERE c.state IS NULL AND c.waits IS NULL)
        INTO v_level, v_now_free
        FROM child AS c;
        v_doomed := v_doomed || v_level;
        v_free := v_free || v_now_free;
    END LOOP;

    IF cardinality(v_doomed) > 0 THEN
        WITH ended AS (
            UPDATE muskox.jobs AS j
            SET state = n.state, ended = p_now, failure = COALESCE(n.failure, j.failure), bound = NULL
            FROM unnest(v_doomed) AS d (seq) JOIN muskox.nodes AS n ON n.seq = d.seq
            WHERE j.queue = n.queue AND j.id = n.id AND j.seq = n.seq AND j.state + 0 = 2
            RETURNING j.state, n.failure,
                      ROW(j.seq, j.queue, j.lane, j.attempt, 2, j.state, NULL, j.id, NULL, j.flow)::muskox.move AS move
        )
        SELECT array_agg(e.move ORDER BY (e.move).seq) FILTER (WHERE e.state = 5),
               array_agg(',' || e.failure ORDER BY (e.move).seq) FILTER (WHERE e.state = 5),
               array_agg(e.move ORDER BY (e.move).seq) FILTER (WHERE e.state = 6)
        INTO v_moves, v_failures, v_cancelled
        FROM ended AS e;
        IF v_moves IS NOT NULL THEN
            PERFORM muskox.tell_moved(
                p_now, 'failed', array_fill(2::smallint, ARRAY[cardinality(v_moves)]), 5::smallint,
                ARRAY(SELECT m.queue FROM unnest(v_moves) AS m), ARRAY(SELECT m.lane FROM unnest(v_moves) AS m),
                ARRAY(SELECT m.id FROM unnest(v_moves) AS m), ARRAY(SELECT m.attempt FROM unnest(v_moves) AS m), v_failures);
        END IF;
        IF v_cancelled IS NOT NULL THEN
            PERFORM muskox.tell_moves(p_now, 'cancelled', v_cancelled);
            v_moves := v_moves || v_cancelled;
        END IF;
    END IF;
    IF cardinality(v_free) > 0 THEN
        v_moves := v_moves || muskox.release_nodes(p_now, v_free);
    END IF;
    RETURN v_moves;
END
$$;

-- Let jobs wait whose parents have all ended, as if they were just added. Gives the moves; one with a key has come from
-- nowhere for that.
CREATE FUNCTION muskox.release_nodes(p_now bigint, p_seqs bigint[]) RETURNS muskox.move[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_moves muskox.move[];
    v_delayed muskox.move[];
    v_keyed muskox.move[];
BEGIN
    -- Mostly they are locked already.
    PERFORM muskox.lock_keys(array_agg(n.queue), array_agg(n.key))
    FROM unnest(p_seqs) AS u (seq) JOIN muskox.nodes AS n ON n.seq = u.seq
    WHERE n.key IS NOT NULL
    HAVING count(*) > 0;
    WITH moved AS (
        UPDATE muskox.jobs AS j
        SET state = CASE WHEN n.delay > 0 THEN 1 WHEN n.key IS NULL THEN 0 ELSE 2 END, arrival = p_now + n.delay,
            due = CASE WHEN n.delay > 0 THEN p_now + n.delay END, bound = NULL
        FROM unnest(p_seqs) AS u (seq) JOIN muskox.nodes AS n ON n.seq = u.seq
        WHERE j.queue = n.queue AND j.id = n.id AND j.seq = n.seq AND j.state + 0 = 2
        RETURNING j.state, j.key,
                  ROW(j.seq, j.queue, j.lane, j.attempt, 2, j.state, NULL, j.id, NULL, NULL)::muskox.move AS move,
                  ROW(j.seq, j.queue, j.lane, j.attempt, NULL, j.state, NULL, j.id, j.key, NULL)::muskox.move AS come
    )
    SELECT array_agg(m.move ORDER BY (m.move).seq) FILTER (WHERE m.state = 0),
           array_agg(m.move ORDER BY (m.move).seq) FILTER (WHERE m.state = 1),
           array_agg(m.come ORDER BY (m.come).seq) FILTER (WHERE m.key IS NOT NULL)
    INTO v_moves, v_delayed, v_keyed
    FROM moved AS m;
    IF v_moves IS NOT NULL THEN
        PERFORM muskox.tell_moves(p_now, 'waiting', v_moves);
    END IF;
    IF v_delayed IS NOT NULL THEN
        PERFORM muskox.tell_moves(p_now, 'delayed', v_delayed);
    END IF;
    RETURN v_moves || v_keyed;
END
$$;

-- Change the figures of flows: one entry per flow, 0 where only its end may have come. What follows those that have ended
-- is added. Gives the moves of that.
CREATE FUNCTION muskox.tally(
    p_now bigint, p_flows bigint[], p_completed bigint[], p_failed bigint[], p_cancelled bigint[]
) RETURNS muskox.move[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_over bigint[];
BEGIN
    IF cardinality(p_flows) > 1 THEN
        PERFORM FROM muskox.flows AS f WHERE f.number = ANY (p_flows) ORDER BY f.number FOR UPDATE;
    END IF;
    WITH kept AS (
        UPDATE muskox.flows AS f
        SET completed = f.completed + c.completed, failed = f.failed + c.failed, cancelled = f.cancelled + c.cancelled,
            ended = CASE WHEN NOT f.open AND f.total = f.completed + f.failed + f.cancelled + c.ended THEN COALESCE(f.ended, p_now) END,
            look = CASE WHEN NOT f.open AND f.total = f.completed + f.failed + f.cancelled + c.ended
                   THEN COALESCE(f.look, p_now + 86400000000) END
        FROM (
            SELECT u.flow, u.completed, u.failed, u.cancelled, u.completed + u.failed + u.cancelled AS ended
            FROM unnest(p_flows, p_completed, p_failed, p_cancelled) AS u (flow, completed, failed, cancelled)
        ) AS c
        WHERE f.number = c.flow
        RETURNING f.number, f.ended IS NOT NULL AND NOT (f.settled_added AND (f.completed_added OR f.completed < f.total)) AS due
    )
    SELECT array_agg(k.number ORDER BY k.number) FILTER (WHERE k.due) INTO v_over FROM kept AS k;
    IF v_over IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN muskox.add_followers(p_now, v_over);
END
$$;

-- Add what follows flows that have ended, and has not followed before.
CREATE FUNCTION muskox.add_followers(p_now bigint, p_flows bigint[]) RETURNS muskox.move[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_jobs text[];
    v_job text;
    v_plain text[];
    v_new record;
    v_moves muskox.move[];
BEGIN
    SELECT array_agg(w.job ORDER BY f.number, w.place) INTO v_jobs
    FROM muskox.flows AS f
    CROSS JOIN LATERAL (
        VALUES (1, f.completed_job, f.completed = f.total AND NOT f.completed_added), (2, f.settled_job, NOT f.settled_added)
    ) AS w (place, job, due)
    WHERE f.number = ANY (p_flows) AND w.due AND w.job IS NOT NULL;
    UPDATE muskox.flows AS f
    SET settled_added = true, completed_added = f.completed_added OR f.completed = f.total
    WHERE f.number = ANY (p_flows);
    IF v_jobs IS NULL THEN
        RETURN NULL;
    END IF;
    FOREACH v_job IN ARRAY v_jobs LOOP
        IF v_job::json ->> 'dedup' IS NULL THEN
            v_plain := v_plain || v_job;
        ELSE
            PERFORM muskox.add_once(p_now, '', false, json_build_array(v_job::json), NULL);
            -- For whoever waits for its queue.
            v_moves := v_moves || ROW(NULL, (v_job::json ->> 'queue')::integer, NULL, 0, NULL, 0, NULL, NULL, NULL, NULL)::muskox.move;
        END IF;
    END LOOP;
    IF v_plain IS NULL THEN
        RETURN v_moves;
    END IF;
    SELECT array_agg(n.queue ORDER BY w.place) AS queues, array_agg(n.lane ORDER BY w.place) AS lanes,
           array_agg(n.id ORDER BY w.place) AS ids, array_agg(n.rank ORDER BY w.place) AS ranks,
           array_agg(n.delay ORDER BY w.place) AS delays, array_agg(n.attempts ORDER BY w.place) AS attempts,
           array_agg(n.stalls ORDER BY w.place) AS stalls, array_agg(n.options ORDER BY w.place) AS options,
           array_agg(n.data ORDER BY w.place) AS data, array_agg(n.key ORDER BY w.place) AS keys
    INTO v_new
    FROM unnest(v_plain) WITH ORDINALITY AS w (job, place)
    CROSS JOIN LATERAL json_to_record(w.job::json) AS n (
        queue integer, lane integer, id text, rank integer, delay bigint, attempts integer, stalls integer, options text,
        data text, key text);
    PERFORM muskox.lock_keys(v_new.queues, v_new.keys);
    SELECT v_moves || p.moves INTO v_moves
    FROM muskox.plant(
        p_now, NULL, false, NULL, v_new.queues, v_new.lanes, v_new.ids, v_new.ranks, v_new.delays, v_new.attempts,
        v_new.stalls, v_new.options, v_new.data, v_new.keys, NULL, NULL, NULL, NULL, NULL, NULL) AS p;
    RETURN v_moves;
END
$$;

-- What moves of jobs mean to their flows: outcomes and children of those of a graph, then the figures of all. Gives the
-- moves that follow from them, also told and counted.
CREATE FUNCTION muskox.follow_flows(p_now bigint, p_moves muskox.move[]) RETURNS muskox.move[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_ended bigint[];
    v_moves muskox.move[];
    v_change record;
BEGIN
    IF EXISTS (
        SELECT FROM muskox.flows AS f
        WHERE f.number IN (SELECT m.flow FROM unnest(p_moves) AS m WHERE m.target >= 4 OR m.target IS NULL) AND f.graph
    ) THEN
        WITH written AS (
            UPDATE muskox.nodes AS n
            SET waits = NULL, state = COALESCE(m.target, 6), removed = m.target IS NULL,
                result = CASE WHEN m.target = 4 THEN j.result END, failure = j.failure
            FROM unnest(p_moves) AS m
            LEFT JOIN muskox.jobs AS j ON j.queue = m.queue AND j.id = m.id AND j.seq = m.seq
            WHERE m.flow IS NOT NULL AND (m.target >= 4 OR m.target IS NULL) AND n.seq = m.seq AND n.state IS NULL
            RETURNING n.seq
        )
        SELECT array_agg(w.seq) INTO v_ended FROM written AS w;
        IF v_ended IS NOT NULL THEN
            v_moves := muskox.resolve(p_now, v_ended, NULL, NULL);
        END IF;
    END IF;
    SELECT array_agg(c.flow) AS flows, array_agg(c.completed) AS completed, array_agg(c.failed) AS failed,
           array_agg(c.cancelled) AS cancelled
    INTO v_change
    FROM (
        SELECT m.flow, count(*) FILTER (WHERE m.target = 4) AS completed,
               count(*) FILTER (WHERE m.target = 5) - count(*) FILTER (WHERE m.source = 5) AS failed,
               count(*) FILTER (WHERE m.target = 6 OR m.target IS NULL) - count(*) FILTER (WHERE m.source = 6) AS cancelled
        FROM unnest(p_moves || v_moves) AS m
        -- Ended, or running again; neither removed after its end nor come to wait.
        WHERE m.flow IS NOT NULL AND (m.source >= 4) <> COALESCE(m.target >= 4, true)
        GROUP BY m.flow
    ) AS c;
    IF v_change.flows IS NULL THEN
        RETURN v_moves;
    END IF;
    RETURN v_moves || muskox.tally(p_now, v_change.flows, v_change.completed, v_change.failed, v_change.cancelled);
END
$$;

-- Ended jobs of graphs are about to run again: forget how they ended, and let blocked children wait for them again.
-- Gives the rows of those that have parents themselves which have not ended.
CREATE FUNCTION muskox.reopen_nodes(p_seqs bigint[]) RETURNS bigint[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_seqs bigint[];
    v_bound bigint[];
BEGIN
    WITH opened AS (
        UPDATE muskox.nodes AS n SET state = NULL, removed = false, result = NULL, failure = NULL
        FROM unnest(p_seqs) AS u (seq)
        WHERE n.seq = u.seq AND n.state IS NOT NULL
        RETURNING n.seq
    )
    SELECT array_agg(o.seq) INTO v_seqs FROM opened AS o;
    IF v_seqs IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE muskox.nodes AS c SET waits = c.waits + t.more
    FROM (
        SELECT e.child, count(*)::integer AS more
        FROM unnest(v_seqs) AS u (seq) JOIN muskox.edges AS e ON e.parent = u.seq
        GROUP BY e.child
    ) AS t
    WHERE c.seq = t.child AND c.waits IS NOT NULL;
    WITH bound AS (
        UPDATE muskox.nodes AS c SET waits = t.unended
        FROM (
            SELECT e.child, count(*)::integer AS unended
            FROM unnest(v_seqs) AS u (seq)
            JOIN muskox.edges AS e ON e.child = u.seq
            JOIN muskox.nodes AS p ON p.seq = e.parent
            WHERE p.state IS NULL
            GROUP BY e.child
        ) AS t
        WHERE c.seq = t.child
        RETURNING c.seq
    )
    SELECT array_agg(b.seq) INTO v_bound FROM bound AS b;
    RETURN v_bound;
END
$$;
