-- readers: 0008
-- Queues that bound how many jobs wait in them.

-- `when_full` is what becomes of more: reject, drop-oldest, wait. Whoever adds to such a queue locks its row after that,
-- and then counts: so no two find room for one.
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
    FOR v_bound IN SELECT b.* FROM muskox.capacities AS b WHERE b.queue = ANY (p_queues) ORDER BY b.queue FOR UPDATE LOOP
        SELECT count(*) INTO v_new
        FROM unnest(p_queues, p_ids) AS n (queue, id) JOIN muskox.jobs AS j ON j.queue = n.queue AND j.id = n.id
        WHERE n.queue = v_bound.queue AND j.added = p_now AND j.state IN (0, 2) AND j.attempt = 0;
        CONTINUE WHEN v_new = 0;
        SELECT count(*) INTO v_waiting
        FROM muskox.lanes AS l JOIN muskox.jobs AS j ON j.lane = l.id AND j.state = 0
        WHERE l.queue = v_bound.queue;
        SELECT v_waiting + count(*) INTO v_waiting
        FROM muskox.jobs AS j WHERE j.queue = v_bound.queue AND j.state = 2;
        CONTINUE WHEN v_waiting <= v_bound.most;
        v_dropped := NULL;
        IF v_bound.when_full = 'drop-oldest' THEN
            v_dropped := ARRAY(
                SELECT j.id
                FROM muskox.lanes AS l JOIN muskox.jobs AS j ON j.lane = l.id AND j.state = 0
                WHERE l.queue = v_bound.queue
                ORDER BY j.rank DESC, j.arrival, j.seq
                LIMIT v_waiting - v_bound.most
            );
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
