-- Flows and batches as one thing.

-- The keys of what follows flows that may be about to end, to be locked with others. More than so many jobs are not ended
-- by all that are at it together.
CREATE FUNCTION muskox.follower_keys(p_flows bigint[]) RETURNS TABLE (queues integer[], keys text[]) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT array_agg((w.job::json ->> 'queue')::integer), array_agg(w.job::json ->> 'key')
    FROM muskox.flows AS f CROSS JOIN LATERAL (VALUES (f.completed_job), (f.settled_job)) AS w (job)
    WHERE f.number = ANY (p_flows) AND f.total - f.completed - f.failed - f.cancelled <= 10000
      AND position('"key":"' IN w.job) > 0
$$;

-- Say that a flow has ended, if it has, and add what follows it. Gives the queues in which more may be claimed.
CREATE FUNCTION muskox.end_flow(p_now bigint, p_flow bigint) RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_moves muskox.move[] := muskox.tally(p_now, ARRAY[p_flow], '{0}', '{0}', '{0}');
BEGIN
    IF v_moves IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM muskox.follow(p_now, v_moves);
    RETURN ARRAY(SELECT DISTINCT m.queue FROM unnest(v_moves) AS m);
END
$$;

-- Close a flow; with p_stop it is cancelled as a whole.
CREATE FUNCTION muskox.close_flow(p_now bigint, p_level text, p_flow text, p_stop boolean) RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_flow bigint;
BEGIN
    PERFORM muskox.relax(p_level);
    PERFORM muskox.lock_keys(k.queues, k.keys)
    FROM muskox.follower_keys(ARRAY(SELECT f.number FROM muskox.flows AS f WHERE f.id = p_flow AND NOT f.graph)) AS k
    WHERE k.keys IS NOT NULL;
    UPDATE muskox.flows AS f SET open = false, stopped = f.stopped OR p_stop
    WHERE f.id = p_flow AND (f.open OR (p_stop AND NOT f.stopped))
    RETURNING f.number INTO v_flow;
    IF FOUND THEN
        RETURN muskox.awaited(COALESCE(muskox.end_flow(muskox.tick(p_now, true), v_flow), '{}'));
    END IF;
    RETURN NULL;
END
$$;

-- Cancel those jobs of a flow that have not ended, or retry those that failed or were cancelled. A graph is retried whole.
CREATE FUNCTION muskox.change_flow(p_now bigint, p_verb text, p_flow text, p_states smallint[], p_limit integer)
RETURNS TABLE (moved integer, bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_flow muskox.flows;
    v_queues integer[];
    v_ids text[];
BEGIN
    SELECT * INTO v_flow FROM muskox.flows AS f WHERE f.id = p_flow;
    moved := 0;
    IF NOT FOUND THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM muskox.lock_graphs(ARRAY[v_flow.number], NULL);
    SELECT array_agg(w.queue), array_agg(w.id) INTO v_queues, v_ids
    FROM (
        SELECT j.queue, j.id
        FROM unnest(p_states) WITH ORDINALITY AS s (state, place)
        CROSS JOIN LATERAL (
            SELECT o.queue, o.id, o.seq FROM muskox.jobs AS o
            WHERE o.flow = v_flow.number AND o.state = s.state
            ORDER BY o.seq
            LIMIT CASE WHEN p_verb = 'cancel' OR NOT v_flow.graph THEN p_limit END
        ) AS j
        ORDER BY s.place, j.seq
        LIMIT CASE WHEN p_verb = 'cancel' OR NOT v_flow.graph THEN p_limit END
    ) AS w;
    IF v_ids IS NOT NULL THEN
        RETURN QUERY SELECT c.moved, c.bells FROM muskox.change_rows(p_now, p_verb, v_queues, v_ids, p_states, NULL) AS c;
    ELSE
        RETURN NEXT;
    END IF;
    IF p_verb = 'retry' AND v_flow.stopped THEN
        UPDATE muskox.flows AS f SET stopped = false WHERE f.number = v_flow.number;
    END IF;
END
$$;

-- Delete flows that ended long enough ago and whose jobs have all gone.
CREATE FUNCTION muskox.clear_flows(p_now bigint, p_limit integer) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_gone bigint[];
    v_kept bigint[];
BEGIN
    SELECT array_agg(f.number) FILTER (WHERE NOT f.peopled), array_agg(f.number) FILTER (WHERE f.peopled) INTO v_gone, v_kept
    FROM (
        SELECT f.number, EXISTS (SELECT FROM muskox.jobs AS j WHERE j.flow = f.number) AS peopled
        FROM muskox.flows AS f
        WHERE f.look <= p_now
        ORDER BY f.look
        LIMIT LEAST(p_limit, 100)
        FOR UPDATE SKIP LOCKED
    ) AS f;
    IF v_kept IS NOT NULL THEN
        UPDATE muskox.flows AS f SET look = p_now + 3600000000 WHERE f.number = ANY (v_kept);
    END IF;
    IF v_gone IS NOT NULL THEN
        DELETE FROM muskox.edges AS e USING muskox.nodes AS n WHERE n.flow = ANY (v_gone) AND e.child = n.seq;
        DELETE FROM muskox.nodes AS n WHERE n.flow = ANY (v_gone);
        DELETE FROM muskox.flows AS f WHERE f.number = ANY (v_gone);
    END IF;
END
$$;

-- Fill a batch with jobs that are alike and all new, as most that are added together: what `grow` does in fewer steps.
-- Returns the moment and the bells to ring, as JSON; NULL when that cannot be and nothing was done. Fails when a job is
-- known, or twice among them.
CREATE FUNCTION muskox.fill_alike(
    p_now bigint, p_level text, p_flow text, p_open boolean, p_completed text, p_settled text, p_queue integer, p_lane integer,
    p_rank integer, p_delay bigint, p_attempts integer, p_stalls integer, p_options text, p_ids text[], p_data text[], p_body text
) RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now bigint;
    v_size integer := cardinality(p_ids);
    v_state smallint := (p_delay > 0)::integer;
    v_flow muskox.flows;
    v_event bigint;
BEGIN
    PERFORM muskox.relax(p_level);
    SELECT * INTO v_flow FROM muskox.flows AS f WHERE f.id = p_flow FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO muskox.flows (id, added, graph, completed_job, settled_job)
        VALUES (p_flow, muskox.tick(p_now, true), false, p_completed, p_settled)
        ON CONFLICT (id) DO NOTHING
        RETURNING * INTO v_flow;
    END IF;
    IF NOT FOUND OR v_flow.graph OR NOT v_flow.open THEN
        RETURN NULL;
    END IF;
    v_now := muskox.tick(p_now, true);
    INSERT INTO muskox.jobs
        (queue, lane, id, rank, state, arrival, added, due, attempts, max_stalls, options, data, tied, flow)
    SELECT p_queue, p_lane, n.id, p_rank, v_state, v_now + p_delay, v_now, CASE WHEN p_delay > 0 THEN v_now + p_delay END,
           p_attempts, p_stalls, p_options, n.data, true, v_flow.number
    FROM unnest(p_ids, p_data) AS n (id, data);
    UPDATE muskox.flows AS f SET total = f.total + v_size, open = p_open WHERE f.number = v_flow.number;
    INSERT INTO muskox.events (at, queue, size, kind, body)
    VALUES (v_now, p_queue, v_size, CASE v_state WHEN 0 THEN 'waiting' ELSE 'delayed' END, p_body)
    RETURNING id INTO v_event;
    INSERT INTO muskox.pending (event, size, lane, moved, target) VALUES (v_event, v_size, p_lane, v_size, v_state);
    RETURN json_build_array(v_now, muskox.awaited(ARRAY[p_queue]));
END
$$;
