-- readers: 0008
-- Queues that bound how many jobs wait in them.

-- `when_full` is what becomes of more: reject, drop-oldest, wait. Whoever adds to such a queue locks its row before all
-- else, and counts at the end: so no two find room for one.
CREATE TABLE muskox.capacities (
    queue integer PRIMARY KEY,
    most bigint NOT NULL,
    when_full text COLLATE "C" NOT NULL
);

-- Let what follows in this transaction come to queues that are full, or no more.
CREATE FUNCTION muskox.overfill(p_may boolean) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    PERFORM set_config('muskox.overfill', CASE WHEN p_may THEN 'on' ELSE 'off' END, true);
END
$$;

-- Put the bound of a queue, as its limits say.
CREATE FUNCTION muskox.put_bound(p_queue integer, p_record text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    DELETE FROM muskox.capacities AS b WHERE b.queue = p_queue;
    INSERT INTO muskox.capacities (queue, most, when_full)
    SELECT p_queue, r.max_waiting, COALESCE(r.when_full, 'reject')
    FROM json_to_record(p_record::json) AS r (max_waiting bigint, when_full text)
    WHERE r.max_waiting IS NOT NULL;
END
$$;

-- Lock the keys of new jobs, made where there are none, the bounds of their queues, and what those jobs are tied to that
-- may be dropped for them; to be called before anything else is locked.
CREATE FUNCTION muskox.lock_new(p_queues integer[], p_keys text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_bound muskox.capacities;
    v_its record;
    v_queues integer[];
    v_keys text[];
    v_flows bigint[];
    v_rows bigint[];
BEGIN
    IF EXISTS (SELECT FROM muskox.capacities AS b WHERE b.queue = ANY (p_queues))
       AND COALESCE(current_setting('muskox.overfill', true), '') <> 'on' THEN
        FOR v_bound IN SELECT b.* FROM muskox.capacities AS b WHERE b.queue = ANY (p_queues) ORDER BY b.queue FOR UPDATE LOOP
            CONTINUE WHEN v_bound.when_full <> 'drop-oldest';
            SELECT array_agg(d.queue) AS queues, array_agg(d.key) AS keys, array_agg(d.flow) AS flows, array_agg(d.seq) AS rows
            INTO v_its
            FROM muskox.droppable(
                v_bound.queue,
                muskox.count_waiting(v_bound.queue) + cardinality(array_positions(p_queues, v_bound.queue)) - v_bound.most) AS d
            WHERE d.tied;
            v_queues := v_queues || v_its.queues;
            v_keys := v_keys || v_its.keys;
            v_flows := v_flows || v_its.flows;
            v_rows := v_rows || v_its.rows;
        END LOOP;
    END IF;
    IF v_queues IS NOT NULL THEN
        PERFORM muskox.lock_ties(v_queues || p_queues, v_keys || p_keys, v_flows, v_rows, NULL, true);
    ELSIF p_keys IS NOT NULL THEN
        PERFORM muskox.lock_keys(p_queues, p_keys);
    END IF;
END
$$;

-- How many jobs wait in a queue, in line or blocked.
CREATE FUNCTION muskox.count_waiting(p_queue integer) RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN (
        SELECT count(*) FROM muskox.lanes AS l JOIN muskox.jobs AS j ON j.lane = l.id AND j.state = 0 WHERE l.queue = p_queue
    ) + (SELECT count(*) FROM muskox.jobs AS j WHERE j.queue = p_queue AND j.state = 2);
END
$$;

-- The jobs that are dropped first: of the lowest priority those that came first.
CREATE FUNCTION muskox.droppable(p_queue integer, p_jobs bigint)
RETURNS TABLE (id text, queue integer, key text, flow bigint, seq bigint, tied boolean) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT j.id, j.queue, j.key, j.flow, j.seq, j.tied
    FROM muskox.lanes AS l JOIN muskox.jobs AS j ON j.lane = l.id AND j.state = 0
    WHERE l.queue = p_queue
    ORDER BY j.rank DESC, j.arrival, j.seq
    LIMIT greatest(0, p_jobs);
END
$$;

-- Look whether jobs that were just added fit into their queues; else others are dropped, or it is an error with a state of
-- our own, so that nothing was added: MX010, whose message is JSON.
CREATE FUNCTION muskox.keep_bounds(p_now bigint, p_queues integer[], p_ids text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_bound muskox.capacities;
    v_new bigint;
    v_waiting bigint;
    v_dropped text[];
BEGIN
    IF NOT EXISTS (SELECT FROM muskox.capacities AS b WHERE b.queue = ANY (p_queues))
       OR COALESCE(current_setting('muskox.overfill', true), '') = 'on' THEN
        RETURN;
    END IF;
    -- Locked by `lock_new`, but for one that was put since.
    FOR v_bound IN SELECT b.* FROM muskox.capacities AS b WHERE b.queue = ANY (p_queues) ORDER BY b.queue FOR UPDATE LOOP
        SELECT count(*) INTO v_new
        FROM unnest(p_queues, p_ids) AS n (queue, id) JOIN muskox.jobs AS j ON j.queue = n.queue AND j.id = n.id
        WHERE n.queue = v_bound.queue AND j.added = p_now AND j.state IN (0, 2) AND j.attempt = 0;
        CONTINUE WHEN v_new = 0;
        v_waiting := muskox.count_waiting(v_bound.queue);
        CONTINUE WHEN v_waiting <= v_bound.most;
        v_dropped := NULL;
        IF v_bound.when_full = 'drop-oldest' THEN
            v_dropped := ARRAY(SELECT d.id FROM muskox.droppable(v_bound.queue, v_waiting - v_bound.most) AS d);
        END IF;
        IF COALESCE(cardinality(v_dropped), 0) < v_waiting - v_bound.most THEN
            RAISE EXCEPTION USING ERRCODE = 'MX010', MESSAGE = json_build_object(
                'queue', (SELECT q.name FROM muskox.queues AS q WHERE q.id = v_bound.queue), 'most', v_bound.most,
                'waiting', v_waiting - v_new, 'wanted', v_new, 'may_wait', v_bound.when_full = 'wait')::text;
        END IF;
        PERFORM muskox.change_rows(
            p_now, 'remove', array_fill(v_bound.queue, ARRAY[cardinality(v_dropped)]), v_dropped, '{0}', NULL);
    END LOOP;
END
$$;
