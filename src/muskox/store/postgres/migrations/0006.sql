-- Moves by hand, and what is told from outside.

-- The ids of the jobs in a selection, state by state. p_states and p_names NULL: any. None is locked, since what a job is
-- tied to is locked before it.
CREATE FUNCTION muskox.selected(p_queue text, p_states smallint[], p_names text[], p_limit integer)
RETURNS TABLE (id text) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_queue integer := (SELECT q.id FROM muskox.queues AS q WHERE q.name = p_queue);
    v_lanes integer[];
    v_state smallint;
    v_left integer := p_limit;
    v_found integer;
BEGIN
    v_lanes := ARRAY(SELECT l.id FROM muskox.lanes AS l WHERE l.queue = v_queue AND (p_names IS NULL OR l.name = ANY (p_names)));
    FOREACH v_state IN ARRAY COALESCE(p_states, '{0,1,2,3,4,5,6}') LOOP
        EXIT WHEN v_left <= 0;
        IF v_state = 0 THEN
            RETURN QUERY
            SELECT j.id
            FROM unnest(v_lanes) AS l (lane) JOIN muskox.jobs AS j ON j.lane = l.lane
            WHERE j.state = 0 LIMIT v_left;
        ELSIF v_state = 1 THEN
            RETURN QUERY
            SELECT j.id
            FROM muskox.jobs AS j
            WHERE j.state = 1 AND j.lane = ANY (v_lanes) ORDER BY j.due, j.seq LIMIT v_left;
        ELSIF v_state = 2 THEN
            RETURN QUERY
            SELECT j.id
            FROM muskox.jobs AS j
            WHERE j.queue = v_queue AND j.state = 2 AND j.seq > 0 AND j.lane = ANY (v_lanes)
            ORDER BY j.seq LIMIT v_left;
        ELSIF v_state = 3 THEN
            RETURN QUERY
            SELECT j.id
            FROM muskox.jobs AS j
            WHERE j.state = 3 AND j.lane = ANY (v_lanes) ORDER BY j.lease_until LIMIT v_left;
        ELSIF v_state >= 4 THEN
            RETURN QUERY
            SELECT j.id
            FROM muskox.jobs AS j
            WHERE j.queue = v_queue AND j.state = v_state AND j.ended IS NOT NULL AND j.lane = ANY (v_lanes)
            ORDER BY j.ended DESC, j.seq DESC LIMIT v_left;
        END IF;
        GET DIAGNOSTICS v_found = ROW_COUNT;
        v_left := v_left - v_found;
    END LOOP;
END
$$;

-- Lock the rows of several runs, each by its queue, id and token, in the order that all take.
CREATE FUNCTION muskox.lock_runs(p_queues integer[], p_ids text[], p_tokens bigint[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF cardinality(p_tokens) > 1 THEN
        PERFORM FROM unnest(p_queues, p_ids, p_tokens) AS r (queue, id, token)
        JOIN muskox.jobs AS j ON j.queue = r.queue AND j.id = r.id
        WHERE j.token = r.token AND j.state + 0 = 3
        ORDER BY r.token
        FOR UPDATE OF j;
    END IF;
END
$$;

-- Change selected jobs: p_verb is promote, retry, cancel or remove; p_states are those from which it may.
CREATE FUNCTION muskox.change(
    p_now bigint, p_verb text, p_queue text, p_ids text[], p_states smallint[], p_names text[], p_limit integer
) RETURNS TABLE (moved integer, bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_queue integer := (SELECT q.id FROM muskox.queues AS q WHERE q.name = p_queue);
    v_ids text[];
    v_lanes integer[];
BEGIN
    IF p_ids IS NULL THEN
        v_ids := ARRAY(SELECT s.id FROM muskox.selected(p_queue, p_states, p_names, p_limit) AS s);
    ELSE
        v_ids := ARRAY(SELECT DISTINCT w.id COLLATE "C" FROM unnest(p_ids) AS w (id) ORDER BY 1);
    END IF;
    IF p_names IS NOT NULL THEN
        v_lanes := ARRAY(SELECT l.id FROM muskox.lanes AS l WHERE l.queue = v_queue AND l.name = ANY (p_names));
    END IF;
    RETURN QUERY
    SELECT c.moved, c.bells
    FROM muskox.change_rows(
        p_now, p_verb, array_fill(v_queue, ARRAY[cardinality(v_ids)]), v_ids, p_states, v_lanes) AS c;
END
$$;

-- Change these jobs, as far as they are in one of the states and, unless it is NULL, of the lanes.
CREATE FUNCTION muskox.change_rows(
    p_now bigint, p_verb text, p_queues integer[], p_ids text[], p_states smallint[], p_lanes integer[]
) RETURNS TABLE (moved integer, bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_tids tid[];
    v_rows bigint[];
    v_in_flow bigint[];
    v_moves muskox.move[];
    v_tied muskox.move[];
    v_bound muskox.move[];
    v_queues integer[];
BEGIN
    moved := 0;
    -- Nothing may be left of the key of one that has ended and is retried.
    PERFORM muskox.lock_ties(
        array_agg(j.queue), array_agg(j.key), array_agg(j.flow), array_agg(j.seq), NULL, p_verb = 'retry')
    FROM unnest(p_queues, p_ids) AS w (queue, id) JOIN muskox.jobs AS j ON j.queue = w.queue AND j.id = w.id
    WHERE j.tied
    HAVING count(*) > 0;
    SELECT array_agg(j.tid ORDER BY j.place), array_agg(j.seq ORDER BY j.place), array_agg(j.seq) FILTER (WHERE j.flow IS NOT NULL)
    INTO v_tids, v_rows, v_in_flow
    FROM (
        SELECT j.ctid AS tid, j.seq, j.flow, w.place
        FROM unnest(p_queues, p_ids) WITH ORDINALITY AS w (queue, id, place)
        JOIN muskox.jobs AS j ON j.queue = w.queue AND j.id = w.id
        WHERE (p_states IS NULL OR j.state = ANY (p_states)) AND (p_lanes IS NULL OR j.lane = ANY (p_lanes))
        ORDER BY j.token, j.queue, j.id
        FOR UPDATE OF j
    ) AS j;
    IF v_tids IS NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    moved := cardinality(v_tids);
    IF p_verb = 'retry' AND v_in_flow IS NOT NULL THEN
        PERFORM muskox.reopen_nodes(v_in_flow);
    END IF;
    -- What is bound to parents is in the line of no key.
    WITH it AS MATERIALIZED (
        SELECT t.tid, t.place, j.tied, b.bound,
               ROW(j.seq, j.queue, j.lane, j.attempt, j.state,
                   CASE WHEN p_verb = 'cancel' THEN 6 WHEN p_verb = 'remove' THEN NULL
                        WHEN j.key IS NULL AND b.bound IS NULL THEN 0 ELSE 2 END,
                   j.counted, j.id, CASE WHEN j.bound IS NULL AND b.bound IS NULL THEN j.key END, j.flow)::muskox.move AS move
        FROM unnest(v_tids) WITH ORDINALITY AS t (tid, place) JOIN muskox.jobs AS j ON j.ctid = t.tid
        CROSS JOIN LATERAL (
            SELECT CASE WHEN j.flow IS NOT NULL AND p_verb = 'retry' AND EXISTS (
                SELECT FROM muskox.nodes AS n WHERE n.seq = j.seq AND n.waits IS NOT NULL) THEN true END AS bound
        ) AS b
    ), changed AS (
        UPDATE muskox.jobs AS j
        SET state = (i.move).target, arrival = CASE WHEN p_verb = 'cancel' THEN j.arrival ELSE v_now END, due = NULL,
            token = NULL, lease_until = NULL, ended = CASE WHEN p_verb = 'cancel' THEN v_now END, bound = i.bound,
            clear_at = CASE WHEN p_verb = 'cancel' THEN j.clear_at END,
            attempts = CASE WHEN p_verb = 'retry' AND j.attempt >= COALESCE(j.attempts, 1) THEN j.attempt + 1 ELSE j.attempts END,
            stalls = CASE WHEN p_verb = 'retry' THEN 0 ELSE j.stalls END
        FROM it AS i
        WHERE j.ctid = i.tid AND p_verb <> 'remove'
    )
    SELECT array_agg(i.move ORDER BY i.place), array_agg(i.move ORDER BY i.place) FILTER (WHERE i.tied),
           array_agg(i.move ORDER BY i.place) FILTER (WHERE i.bound), array_agg(DISTINCT (i.move).queue)
    INTO v_moves, v_tied, v_bound, v_queues
    FROM it AS i;
    IF p_verb = 'remove' THEN
        DELETE FROM muskox.jobs AS j USING unnest(v_tids) AS t (tid) WHERE j.ctid = t.tid;
        DELETE FROM muskox.logs AS g USING unnest(v_rows) AS r (seq) WHERE g.job = r.seq;
    END IF;
    PERFORM muskox.tell_moves(
        v_now, CASE p_verb WHEN 'cancel' THEN 'cancelled' WHEN 'remove' THEN 'removed' ELSE 'waiting' END, v_moves);
    IF p_verb IN ('cancel', 'remove') THEN
        v_queues := NULL;
    END IF;
    IF v_bound IS NOT NULL THEN
        PERFORM muskox.tell_moved(
            v_now, 'blocked', NULL, NULL, ARRAY(SELECT m.queue FROM unnest(v_bound) AS m),
            ARRAY(SELECT m.lane FROM unnest(v_bound) AS m), ARRAY(SELECT m.id FROM unnest(v_bound) AS m),
            ARRAY(SELECT m.attempt FROM unnest(v_bound) AS m), NULL);
    END IF;
    IF v_tied IS NOT NULL THEN
        SELECT v_queues || f.queues INTO v_queues FROM muskox.follow(v_now, v_tied) AS f;
    END IF;
    IF p_verb IN ('cancel', 'remove') THEN
        v_queues := v_queues || muskox.dedup_over(
            v_now, ARRAY(SELECT m.queue FROM unnest(v_moves) AS m), ARRAY(SELECT m.id FROM unnest(v_moves) AS m));
    END IF;
    bells := muskox.awaited(v_queues);
    RETURN NEXT;
END
$$;

-- Replace the data of a job whose state is one of p_states.
CREATE FUNCTION muskox.update_data(p_now bigint, p_queue text, p_id text, p_data text, p_states smallint[])
RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_one record;
BEGIN
    UPDATE muskox.jobs AS j SET data = p_data
    FROM muskox.queues AS q
    WHERE q.name = p_queue AND j.queue = q.id AND j.id = p_id AND j.state = ANY (p_states)
    RETURNING j.queue, j.lane, j.attempt INTO v_one;
    IF FOUND THEN
        PERFORM muskox.tell_moved(v_now, 'updated', NULL, NULL, ARRAY[v_one.queue], ARRAY[v_one.lane], ARRAY[p_id],
                                  ARRAY[v_one.attempt], NULL);
    END IF;
    RETURN muskox.awaited('{}');
END
$$;

-- Stop or allow claims from a queue, also one that has had no job yet.
CREATE FUNCTION muskox.pause(p_now bigint, p_queue text, p_paused boolean)
RETURNS TABLE (changed boolean, bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_queue integer := muskox.find_queue(p_queue);
BEGIN
    UPDATE muskox.queues AS q SET paused = p_paused WHERE q.id = v_queue AND q.paused <> p_paused;
    changed := FOUND;
    IF changed THEN
        PERFORM muskox.tell(v_queue, CASE WHEN p_paused THEN 'paused' ELSE 'resumed' END, v_now, 1, '[[]]');
        bells := muskox.awaited(CASE WHEN NOT p_paused THEN ARRAY[v_queue] END);
    END IF;
    RETURN NEXT;
END
$$;

-- Append facts that are not moves.
CREATE FUNCTION muskox.publish(p_now bigint, p_queues text[], p_kinds text[], p_bodies text[])
RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint := muskox.tick(p_now, true);
BEGIN
    PERFORM muskox.tell(muskox.find_queue(e.queue), e.kind, v_now, 1, e.body)
    FROM unnest(p_queues, p_kinds, p_bodies) AS e (queue, kind, body);
    RETURN muskox.awaited('{}');
END
$$;

-- Record that a worker lives, or is gone (p_record NULL); those that have been silent for an hour are forgotten.
CREATE FUNCTION muskox.beat(p_now bigint, p_level text, p_id text, p_record text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint := muskox.tick(p_now, true);
BEGIN
    PERFORM muskox.relax(p_level);
    IF p_record IS NULL THEN
        DELETE FROM muskox.workers WHERE id = p_id;
    ELSE
        INSERT INTO muskox.workers (id, at, record) VALUES (p_id, v_now, p_record)
        ON CONFLICT (id) DO UPDATE SET at = excluded.at, record = excluded.record;
        DELETE FROM muskox.workers WHERE at < v_now - 3600000000;
    END IF;
END
$$;
