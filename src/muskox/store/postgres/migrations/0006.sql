-- Moves by hand, and what is told from outside.

-- Lock the jobs of a selection and give their places: by their ids (p_ids not NULL), or state by state. p_states and
-- p_names NULL: any. `was` is the state.
CREATE FUNCTION muskox.selected(p_queue text, p_ids text[], p_states smallint[], p_names text[], p_limit integer)
RETURNS TABLE (tid tid, seq bigint, queue integer, lane integer, id text, was smallint, attempt integer) LANGUAGE plpgsql
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
    IF p_ids IS NOT NULL THEN
        RETURN QUERY
        SELECT j.ctid, j.seq, j.queue, j.lane, j.id, j.state, j.attempt
        FROM unnest(ARRAY(SELECT DISTINCT i FROM unnest(p_ids) AS i)) AS w (id)
        JOIN muskox.jobs AS j ON j.queue = v_queue AND j.id = w.id
        WHERE j.lane = ANY (v_lanes) AND (p_states IS NULL OR j.state = ANY (p_states))
        ORDER BY j.id
        FOR UPDATE OF j;
        RETURN;
    END IF;
    FOREACH v_state IN ARRAY COALESCE(p_states, '{0,1,2,3,4,5,6}') LOOP
        EXIT WHEN v_left <= 0;
        IF v_state = 0 THEN
            RETURN QUERY
            SELECT j.ctid, j.seq, j.queue, j.lane, j.id, j.state, j.attempt
            FROM unnest(v_lanes) AS l (lane) JOIN muskox.jobs AS j ON j.lane = l.lane
            WHERE j.state = 0 LIMIT v_left FOR UPDATE OF j;
        ELSIF v_state = 1 THEN
            RETURN QUERY
            SELECT j.ctid, j.seq, j.queue, j.lane, j.id, j.state, j.attempt
            FROM muskox.jobs AS j
            WHERE j.state = 1 AND j.lane = ANY (v_lanes) ORDER BY j.due, j.seq LIMIT v_left FOR UPDATE;
        ELSIF v_state = 3 THEN
            RETURN QUERY
            SELECT j.ctid, j.seq, j.queue, j.lane, j.id, j.state, j.attempt
            FROM muskox.jobs AS j
            WHERE j.state = 3 AND j.lane = ANY (v_lanes) ORDER BY j.lease_until LIMIT v_left FOR UPDATE;
        ELSIF v_state >= 4 THEN
            RETURN QUERY
            SELECT j.ctid, j.seq, j.queue, j.lane, j.id, j.state, j.attempt
            FROM muskox.jobs AS j
            WHERE j.queue = v_queue AND j.state = v_state AND j.ended IS NOT NULL AND j.lane = ANY (v_lanes)
            ORDER BY j.ended DESC, j.seq DESC LIMIT v_left FOR UPDATE;
        ELSE
            CONTINUE;
        END IF;
        GET DIAGNOSTICS v_found = ROW_COUNT;
        v_left := v_left - v_found;
    END LOOP;
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
    v_now bigint := muskox.tick(p_now, true);
    v_tids tid[];
    v_rows bigint[];
    v_queues integer[];
    v_lanes integer[];
    v_ids text[];
    v_was smallint[];
    v_attempts integer[];
BEGIN
    moved := 0;
    SELECT array_agg(s.tid), array_agg(s.seq), array_agg(s.queue), array_agg(s.lane), array_agg(s.id), array_agg(s.was),
           array_agg(s.attempt)
    INTO v_tids, v_rows, v_queues, v_lanes, v_ids, v_was, v_attempts
    FROM muskox.selected(p_queue, p_ids, p_states, p_names, p_limit) AS s;
    IF v_tids IS NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    moved := cardinality(v_tids);
    IF p_verb IN ('promote', 'retry') THEN
        UPDATE muskox.jobs AS j
        SET state = 0, arrival = v_now, due = NULL, token = NULL, ended = NULL, clear_at = NULL,
            attempts = CASE WHEN p_verb = 'retry' AND j.attempt >= COALESCE(j.attempts, 1) THEN j.attempt + 1 ELSE j.attempts END,
            stalls = CASE WHEN p_verb = 'retry' THEN 0 ELSE j.stalls END
        FROM unnest(v_tids) AS t (tid)
        WHERE j.ctid = t.tid;
        PERFORM muskox.tell_moved(v_now, 'waiting', v_was, 0::smallint, v_queues, v_lanes, v_ids, v_attempts, NULL);
    ELSIF p_verb = 'cancel' THEN
        UPDATE muskox.jobs AS j
        SET state = 6, ended = v_now, due = NULL, lease_until = NULL, token = NULL
        FROM unnest(v_tids) AS t (tid)
        WHERE j.ctid = t.tid;
        PERFORM muskox.tell_moved(v_now, 'cancelled', v_was, 6::smallint, v_queues, v_lanes, v_ids, v_attempts, NULL);
        v_queues := muskox.dedup_over(v_now, v_queues, v_ids);
    ELSE
        DELETE FROM muskox.jobs AS j USING unnest(v_tids) AS t (tid) WHERE j.ctid = t.tid;
        DELETE FROM muskox.logs AS g USING unnest(v_rows) AS r (seq) WHERE g.job = r.seq;
        PERFORM muskox.tell_moved(v_now, 'removed', v_was, NULL, v_queues, v_lanes, v_ids, v_attempts, NULL);
        v_queues := muskox.dedup_over(v_now, v_queues, v_ids);
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
