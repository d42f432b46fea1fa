-- Growing flows and batches.
--
-- What they refuse is an error with a state of our own, so that nothing is done: MX001 the flow is closed, MX002 it is of
-- another kind, MX003 a parent is not in it (the message is the place of the edge), MX004 the job is in no flow.

-- Store jobs, in a flow or in none, with nodes and edges where it has a graph. What they need of keys and flows is locked.
-- The arrays from p_queues to p_keys have an entry per job, those from p_children one per edge, in the order of their
-- children. p_bound: it has parents. The blocked children of p_below wait for them too.
-- Gives the places (from 1) of the jobs that were known, how many were stored, and moves that `follow` must be told.
CREATE FUNCTION muskox.plant(
    p_now bigint, p_flow bigint, p_graph boolean, p_below bigint,
    p_queues integer[], p_lanes integer[], p_ids text[], p_ranks integer[], p_delays bigint[], p_attempts integer[],
    p_stalls integer[], p_options text[], p_data text[], p_keys text[], p_bound boolean[],
    p_children integer[], p_parent_queues text[], p_parents text[], p_names text[], p_meanings smallint[]
) RETURNS TABLE (known integer[], created integer, moves muskox.move[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_made muskox.move[];
    v_some muskox.move[];
    -- By their places; 0 where none was stored.
    v_seqs bigint[];
    v_state smallint;
BEGIN
    UPDATE muskox.queues AS q SET keyed = true
    WHERE NOT q.keyed AND q.id IN (SELECT w.queue FROM unnest(p_queues, p_keys) AS w (queue, key) WHERE w.key IS NOT NULL);
    WITH stored AS (
        INSERT INTO muskox.jobs
            (queue, lane, id, rank, state, arrival, added, due, attempts, max_stalls, options, data, tied, key, flow, bound)
        SELECT n.queue, n.lane, n.id, n.rank,
               CASE WHEN n.bound THEN 2 WHEN n.delay > 0 THEN 1 WHEN n.key IS NULL THEN 0 ELSE 2 END,
               CASE WHEN n.bound THEN p_now ELSE p_now + n.delay END, p_now,
               CASE WHEN n.bound IS NULL AND n.delay > 0 THEN p_now + n.delay END, n.attempts, n.stalls, n.options, n.data,
               CASE WHEN p_flow IS NOT NULL OR n.key IS NOT NULL THEN true END, n.key, p_flow, n.bound
        FROM unnest(p_queues, p_lanes, p_ids, p_ranks, p_delays, p_attempts, p_stalls, p_options, p_data, p_keys, p_bound)
             WITH ORDINALITY AS n (queue, lane, id, rank, delay, attempts, stalls, options, data, key, bound, place)
        ORDER BY n.place
        ON CONFLICT (queue, id) DO NOTHING
        RETURNING seq, queue, lane, state, id, CASE WHEN bound IS NULL THEN key END AS key
    )
    SELECT array_agg(ROW(s.seq, s.queue, s.lane, 0, NULL, s.state, NULL, s.id, s.key, NULL)::muskox.move ORDER BY s.seq)
    INTO v_made FROM stored AS s;
    created := COALESCE(cardinality(v_made), 0);
    IF created < cardinality(p_ids) THEN
        -- Of twins the first is the one that was stored.
        SELECT array_agg(COALESCE(s.seq, 0) ORDER BY s.place), array_agg(s.place ORDER BY s.place) FILTER (WHERE s.seq IS NULL)
        INTO v_seqs, known
        FROM (
            SELECT u.place, CASE WHEN row_number() OVER (k ORDER BY u.place) = 1 THEN max(u.seq) OVER k END AS seq
            FROM (
                SELECT n.queue, n.id, n.place, NULL::bigint AS seq
                FROM unnest(p_queues, p_ids) WITH ORDINALITY AS n (queue, id, place)
                UNION ALL
                SELECT m.queue, m.id, NULL, m.seq FROM unnest(v_made) AS m
            ) AS u
            WINDOW k AS (PARTITION BY u.queue, u.id)
        ) AS s
        WHERE s.place IS NOT NULL;
    END IF;
    IF v_made IS NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM muskox.expire_later(p_now, p_queues, p_ids, p_options);
    FOREACH v_state IN ARRAY '{0,1,2}'::smallint[] LOOP
        SELECT array_agg(m::muskox.move) INTO v_some FROM unnest(v_made) AS m WHERE m.target = v_state;
        IF v_some IS NOT NULL THEN
            PERFORM muskox.tell_moves(p_now, CASE v_state WHEN 0 THEN 'waiting' WHEN 1 THEN 'delayed' END, v_some);
        END IF;
    END LOOP;
    SELECT array_agg(m::muskox.move) INTO moves FROM unnest(v_made) AS m WHERE m.key IS NOT NULL OR p_flow IS NULL;
    IF p_graph THEN
        v_seqs := COALESCE(v_seqs, ARRAY(SELECT m.seq FROM unnest(v_made) WITH ORDINALITY AS m ORDER BY m.ordinality));
        moves := moves || muskox.root(p_now, p_flow, p_below, v_seqs, p_queues, p_ids, p_delays, p_keys, p_bound, p_children,
                                      p_parent_queues, p_parents, p_names, p_meanings);
    END IF;
    RETURN NEXT;
END
$$;

-- Give jobs that were just stored their nodes and edges, and let those that can begin, or never will, do so.
CREATE FUNCTION muskox.root(
    p_now bigint, p_flow bigint, p_below bigint, p_seqs bigint[], p_queues integer[], p_ids text[], p_delays bigint[],
    p_keys text[], p_bound boolean[], p_children integer[], p_parent_queues text[], p_parents text[], p_names text[],
    p_meanings smallint[]
) RETURNS muskox.move[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_tied integer;
    v_missing bigint;
    v_doomed bigint[];
    v_free bigint[];
    v_moves muskox.move[];
BEGIN
    INSERT INTO muskox.nodes (seq, flow, queue, id, delay, key, waits)
    SELECT n.seq, p_flow, n.queue, n.id, n.delay, n.key, CASE WHEN n.bound THEN 0 END
    FROM unnest(p_seqs, p_queues, p_ids, p_delays, p_keys, p_bound) AS n (seq, queue, id, delay, key, bound)
    WHERE n.seq > 0;
    IF p_below IS NOT NULL THEN
        WITH child AS MATERIALIZED (
            SELECT e.child, e.meaning, (SELECT max(o.place) FROM muskox.edges AS o WHERE o.child = e.child) AS most
            FROM muskox.edges AS e JOIN muskox.nodes AS c ON c.seq = e.child
            WHERE e.parent = p_below AND c.waits IS NOT NULL
        ), tied AS (
            INSERT INTO muskox.edges (child, parent, place, meaning, name)
            SELECT c.child, n.seq, c.most + n.number, c.meaning, n.id
            FROM child AS c
            CROSS JOIN (
                SELECT u.seq, u.id, row_number() OVER (ORDER BY u.seq) AS number
                FROM unnest(p_seqs, p_ids) AS u (seq, id) WHERE u.seq > 0
            ) AS n
            RETURNING child
        )
        UPDATE muskox.nodes AS c SET waits = c.waits + t.more
        FROM (SELECT t.child, count(*)::integer AS more FROM tied AS t GROUP BY t.child) AS t
        WHERE c.seq = t.child;
    END IF;
    IF cardinality(p_children) > 0 THEN
        INSERT INTO muskox.edges (child, parent, place, meaning, name)
        SELECT p_seqs[w.child], p.seq, row_number() OVER (PARTITION BY w.child ORDER BY w.place), w.meaning, w.name
        FROM unnest(p_children, p_parent_queues, p_parents, p_names, p_meanings) WITH ORDINALITY
             AS w (child, queue, id, name, meaning, place)
        JOIN muskox.queues AS q ON q.name = w.queue
        CROSS JOIN LATERAL (
            SELECT n.seq FROM muskox.nodes AS n
            WHERE n.flow = p_flow AND n.queue = q.id AND n.id = w.id AND n.seq < p_seqs[w.child]
            ORDER BY n.seq DESC LIMIT 1
        ) AS p
        WHERE p_seqs[w.child] > 0;
        GET DIAGNOSTICS v_tied = ROW_COUNT;
        IF v_tied < (SELECT count(*) FROM unnest(p_children) AS w (child) WHERE p_seqs[w.child] > 0) THEN
            SELECT min(w.place) INTO v_missing
            FROM unnest(p_children, p_parent_queues, p_parents) WITH ORDINALITY AS w (child, queue, id, place)
            WHERE p_seqs[w.child] > 0 AND NOT EXISTS (
                SELECT FROM muskox.queues AS q JOIN muskox.nodes AS n ON n.flow = p_flow AND n.queue = q.id AND n.id = w.id
                WHERE q.name = w.queue AND n.seq < p_seqs[w.child]);
            RAISE EXCEPTION USING ERRCODE = 'MX003', MESSAGE = v_missing::text;
        END IF;
        WITH own AS (
            SELECT e.child, count(*) FILTER (WHERE p.state IS NULL)::integer AS unended,
                   min(e.place) FILTER (WHERE p.state <> 4 AND e.meaning = 0) AS place
            FROM unnest(p_seqs) AS u (seq)
            JOIN muskox.edges AS e ON e.child = u.seq JOIN muskox.nodes AS p ON p.seq = e.parent
            GROUP BY e.child
        ), begun AS (
            UPDATE muskox.nodes AS c
            SET waits = CASE WHEN o.place IS NULL THEN NULLIF(o.unended, 0) END,
                state = CASE WHEN o.place IS NOT NULL THEN 5 END,
                failure = CASE WHEN o.place IS NOT NULL THEN muskox.parent_failure(p.queue, p.id, p.state, p.removed, p.failure) END
            FROM own AS o
            LEFT JOIN muskox.edges AS w ON w.child = o.child AND w.place = o.place
            LEFT JOIN muskox.nodes AS p ON p.seq = w.parent
            WHERE c.seq = o.child
            RETURNING c.seq, c.waits, c.state
        )
        SELECT array_agg(b.seq) FILTER (WHERE b.state IS NOT NULL),
               array_agg(b.seq) FILTER (WHERE b.state IS NULL AND b.waits IS NULL)
        INTO v_doomed, v_free
        FROM begun AS b;
    END IF;
    IF v_doomed IS NOT NULL OR v_free IS NOT NULL THEN
        v_moves := muskox.resolve(p_now, NULL, v_doomed, v_free);
    END IF;
    PERFORM muskox.tell_moved(p_now, 'blocked', NULL, NULL, array_agg(j.queue ORDER BY j.seq), array_agg(j.lane ORDER BY j.seq),
                              array_agg(j.id ORDER BY j.seq), array_agg(0), NULL)
    FROM unnest(p_seqs, p_queues, p_ids) AS u (seq, queue, id)
    JOIN muskox.jobs AS j ON j.queue = u.queue AND j.id = u.id AND j.seq = u.seq
    WHERE j.bound
    HAVING count(*) > 0;
    RETURN v_moves;
END
$$;

-- Add jobs to a flow, made if it is not there; the arrays are those of `plant`. Returns the moment, the places (from 1) of
-- the jobs that were known, the state of each job and why it failed (NULL where all came as they were given), and bells.
CREATE FUNCTION muskox.grow(
    p_now bigint, p_level text, p_within boolean, p_channel text,
    p_flow text, p_graph boolean, p_open boolean, p_completed text, p_settled text,
    p_queues integer[], p_lanes integer[], p_ids text[], p_ranks integer[], p_delays bigint[], p_attempts integer[],
    p_stalls integer[], p_options text[], p_data text[], p_keys text[], p_bound boolean[],
    p_children integer[], p_parent_queues text[], p_parents text[], p_names text[], p_meanings smallint[]
) RETURNS TABLE (at bigint, known integer[], states smallint[], failures text[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_flow muskox.flows;
    v_plant record;
    v_queues integer[];
BEGIN
    IF NOT p_within THEN
        PERFORM muskox.relax(p_level);
    END IF;
    IF NOT p_graph AND p_open THEN
        PERFORM muskox.lock_keys(p_queues, p_keys);
    ELSIF NOT p_graph THEN
        PERFORM muskox.lock_keys(p_queues || k.queues, p_keys || k.keys)
        FROM muskox.follower_keys(ARRAY(SELECT f.number FROM muskox.flows AS f WHERE f.id = p_flow)) AS k;
    END IF;
    LOOP
        SELECT * INTO v_flow FROM muskox.flows AS f WHERE f.id = p_flow FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO muskox.flows (id, added, graph, completed_job, settled_job)
        VALUES (p_flow, muskox.tick(p_now, NOT p_within), p_graph, p_completed, p_settled)
        ON CONFLICT (id) DO NOTHING;
    END LOOP;
    IF v_flow.graph <> p_graph THEN
        RAISE EXCEPTION USING ERRCODE = 'MX002', MESSAGE = p_flow;
    END IF;
    IF p_graph THEN
        PERFORM muskox.lock_keys(p_queues || k.queues, p_keys || k.keys)
        FROM muskox.follower_keys(ARRAY[v_flow.number]) AS k;
    END IF;
    v_now := muskox.tick(p_now, NOT p_within);
    SELECT * INTO v_plant FROM muskox.plant(
        v_now, v_flow.number, p_graph, NULL, p_queues, p_lanes, p_ids, p_ranks, p_delays, p_attempts, p_stalls, p_options,
        p_data, p_keys, p_bound, p_children, p_parent_queues, p_parents, p_names, p_meanings);
    IF v_plant.created > 0 AND NOT v_flow.open THEN
        RAISE EXCEPTION USING ERRCODE = 'MX001', MESSAGE = p_flow;
    END IF;
    IF v_plant.created > 0 OR (v_flow.open AND NOT p_open) THEN
        UPDATE muskox.flows AS f SET total = f.total + v_plant.created, open = f.open AND p_open
        WHERE f.number = v_flow.number;
    END IF;
    IF v_plant.moves IS NOT NULL THEN
        SELECT f.queues INTO v_queues FROM muskox.follow(v_now, v_plant.moves) AS f;
    END IF;
    IF v_flow.open AND NOT p_open THEN
        v_queues := v_queues || muskox.end_flow(v_now, v_flow.number);
    END IF;
    at := v_now;
    known := v_plant.known;
    IF p_graph OR v_plant.moves IS NOT NULL THEN
        SELECT s.states, s.failures INTO states, failures FROM muskox.stands(p_queues, p_ids) AS s;
    END IF;
    IF p_within THEN
        -- Told when the caller commits, whenever that is; twice the same is told once.
        PERFORM pg_notify(p_channel, q.name) FROM muskox.queues AS q WHERE q.id = ANY (p_queues || v_queues);
        PERFORM pg_notify(p_channel, '');
    ELSE
        bells := muskox.awaited(p_queues || v_queues);
    END IF;
    RETURN NEXT;
END
$$;

-- How jobs are that were just added, in their order: states, and why they failed.
CREATE FUNCTION muskox.stands(p_queues integer[], p_ids text[]) RETURNS TABLE (states smallint[], failures text[])
LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT array_agg(j.state ORDER BY n.place), array_agg(j.failure ORDER BY n.place)
    FROM unnest(p_queues, p_ids) WITH ORDINALITY AS n (queue, id, place)
    JOIN muskox.jobs AS j ON j.queue = n.queue AND j.id = n.id
$$;

-- Add jobs from inside a run to the flow of its job, if it has one. `lost`: it may not speak for its job any more.
CREATE FUNCTION muskox.branch(
    p_now bigint, p_level text, p_queue integer, p_id text, p_token bigint,
    p_queues integer[], p_lanes integer[], p_ids text[], p_ranks integer[], p_delays bigint[], p_attempts integer[],
    p_stalls integer[], p_options text[], p_data text[], p_keys text[], p_bound boolean[],
    p_children integer[], p_parent_queues text[], p_parents text[], p_names text[], p_meanings smallint[]
) RETURNS TABLE (lost boolean, flow text, at bigint, known integer[], states smallint[], failures text[], bells text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_row bigint;
    v_flow muskox.flows;
    v_plant record;
    v_queues integer[];
BEGIN
    PERFORM muskox.relax(p_level);
    SELECT f.* INTO v_flow
    FROM muskox.jobs AS j JOIN muskox.flows AS f ON f.number = j.flow
    WHERE j.queue = p_queue AND j.id = p_id AND j.token = p_token;
    PERFORM muskox.lock_graphs(ARRAY[v_flow.number], NULL);
    PERFORM muskox.lock_keys(p_queues, p_keys);
    v_now := muskox.tick(p_now, true);
    SELECT j.seq INTO v_row FROM muskox.jobs AS j
    WHERE j.queue = p_queue AND j.id = p_id AND j.token = p_token AND j.state + 0 = 3
    FOR UPDATE;
    lost := NOT FOUND;
    IF lost THEN
        RETURN NEXT;
        RETURN;
    END IF;
    IF v_flow.number IS NULL AND cardinality(p_children) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'MX004', MESSAGE = p_id;
    END IF;
    SELECT * INTO v_plant FROM muskox.plant(
        v_now, v_flow.number, v_flow.graph, v_row, p_queues, p_lanes, p_ids, p_ranks, p_delays, p_attempts, p_stalls,
        p_options, p_data, p_keys, p_bound, p_children, p_parent_queues, p_parents, p_names, p_meanings);
    IF v_plant.moves IS NOT NULL THEN
        SELECT f.queues INTO v_queues FROM muskox.follow(v_now, v_plant.moves) AS f;
    END IF;
    IF v_plant.created > 0 THEN
        UPDATE muskox.flows AS f SET total = f.total + v_plant.created WHERE f.number = v_flow.number;
    END IF;
    flow := v_flow.id;
    at := v_now;
    known := v_plant.known;
    IF v_flow.graph OR v_plant.moves IS NOT NULL THEN
        SELECT s.states, s.failures INTO states, failures FROM muskox.stands(p_queues, p_ids) AS s;
    END IF;
    bells := muskox.awaited(p_queues || v_queues);
    RETURN NEXT;
END
$$;
