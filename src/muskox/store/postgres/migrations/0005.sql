-- Upkeep: promote what is due, take back what stalled, clear what is old. Bounded; rows that others are at are left
-- to them.

-- Tell of jobs that made the same move, lane by lane, and count them. p_kind NULL tells nothing.
CREATE FUNCTION muskox.tell_moved(
    p_now bigint, p_kind text, p_source smallint[], p_target smallint,
    p_queues integer[], p_lanes integer[], p_ids text[], p_attempts integer[], p_more text[]
) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    INSERT INTO muskox.pending (size, lane, moved, source, target)
    SELECT 0, m.lane, count(*), m.source, p_target
    FROM unnest(p_lanes, p_source) AS m (lane, source)
    WHERE m.source IS NOT NULL
    GROUP BY m.lane, m.source;
    IF p_kind IS NULL THEN
        RETURN;
    END IF;
    WITH told AS (
        INSERT INTO muskox.events (at, queue, size, kind, body)
        SELECT p_now, m.queue, count(*), p_kind,
               '[' || string_agg('[' || to_json(m.id)::text || ',' || l.label || ',' || m.attempt || COALESCE(m.more, '') || ']',
                                 ',' ORDER BY m.place) || ']'
        FROM unnest(p_queues, p_lanes, p_ids, p_attempts, p_more) WITH ORDINALITY AS m (queue, lane, id, attempt, more, place)
        JOIN muskox.lanes AS l ON l.id = m.lane
        GROUP BY m.queue, m.lane
        RETURNING id, size
    )
    INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
END
$$;

-- Make due jobs claimable; they arrive at the moment they were due. Gathers what has been told, too.
CREATE FUNCTION muskox.promote(p_now bigint, p_level text, p_limit integer)
RETURNS TABLE (moved integer, bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_tids tid[];
    v_queues integer[];
    v_keys text[];
    v_moves muskox.move[];
    v_tied muskox.move[];
    v_rung integer[];
BEGIN
    moved := 0;
    v_rung := muskox.wake_keys(v_now, ARRAY(SELECT q.id FROM muskox.queues AS q WHERE q.keyed));
    IF EXISTS (SELECT FROM muskox.expiries AS e WHERE e.at <= v_now) THEN
        v_rung := v_rung || muskox.expire_jobs(v_now, p_limit);
    END IF;
    IF EXISTS (SELECT FROM muskox.jobs AS j WHERE j.state = 1 AND j.due <= v_now) THEN
        PERFORM muskox.relax(p_level);
        -- First locked and then, in a statement that sees where they are by now, moved.
        SELECT array_agg(d.tid), array_agg(d.queue) FILTER (WHERE d.key IS NOT NULL),
               array_agg(d.key) FILTER (WHERE d.key IS NOT NULL)
        INTO v_tids, v_queues, v_keys
        FROM (
            SELECT j.ctid AS tid, j.queue, j.key
            FROM muskox.jobs AS j
            WHERE j.state = 1 AND j.due <= v_now
            ORDER BY j.due, j.seq
            LIMIT p_limit
            FOR UPDATE SKIP LOCKED
        ) AS d;
        IF v_keys IS NOT NULL THEN
            SELECT l.queues, l.keys INTO v_queues, v_keys FROM muskox.try_keys(v_queues, v_keys) AS l;
        END IF;
        WITH promoted AS (
            UPDATE muskox.jobs AS j
            SET state = CASE WHEN j.key IS NULL THEN 0 ELSE 2 END, arrival = j.due, due = NULL
            FROM unnest(v_tids) AS d (tid)
            WHERE j.ctid = d.tid
              AND (j.key IS NULL OR (j.queue, j.key) IN (SELECT h.queue, h.key FROM unnest(v_queues, v_keys) AS h (queue, key)))
            RETURNING j.arrival, j.seq, j.tied,
                      ROW(j.seq, j.queue, j.lane, j.attempt, 1, j.state, NULL, j.id, j.key, j.flow)::muskox.move AS move
        )
        SELECT array_agg(p.move ORDER BY p.arrival, p.seq), array_agg(p.move ORDER BY p.arrival, p.seq) FILTER (WHERE p.tied)
        INTO v_moves, v_tied
        FROM promoted AS p;
        IF v_moves IS NOT NULL THEN
            moved := cardinality(v_moves);
            PERFORM muskox.tell_moves(v_now, 'waiting', v_moves);
            v_rung := v_rung || ARRAY(SELECT DISTINCT m.queue FROM unnest(v_moves) AS m);
            IF v_tied IS NOT NULL THEN
                PERFORM muskox.follow(v_now, v_tied);
            END IF;
        END IF;
    END IF;
    IF cardinality(v_rung) > 0 THEN
        bells := muskox.awaited(v_rung);
    END IF;
    PERFORM muskox.gather(false);
    RETURN NEXT;
END
$$;

-- Take back active jobs whose lease ran out; the token is worth nothing from here on. p_most is the default of the
-- stalls that are allowed. Returns queues and ids of the jobs, the worker that had held each, and the bells.
CREATE FUNCTION muskox.recover(p_now bigint, p_level text, p_limit integer, p_most integer)
RETURNS TABLE (queue text, id text, worker text, bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_tids tid[];
    v_queues integer[];
    v_lanes integer[];
    v_ids text[];
    v_workers text[];
    v_attempts integer[];
    v_stalls integer[];
    v_states smallint[];
    v_failures text[];
    v_state smallint;
    v_places integer[];
    v_had_queues integer[];
    v_had_keys text[];
    v_flows bigint[];
    v_moves muskox.move[];
    v_rung integer[];
BEGIN
    IF NOT EXISTS (SELECT FROM muskox.jobs AS j WHERE j.state = 3 AND j.lease_until < v_now)
       AND NOT EXISTS (SELECT FROM muskox.jobs AS j WHERE j.state = 3 AND j.lease_until IS NULL) THEN
        RETURN;
    END IF;
    PERFORM muskox.relax(p_level);
    PERFORM FROM muskox.limits AS l WHERE l.concurrency IS NOT NULL ORDER BY l.queue FOR UPDATE;
    SELECT array_agg(j.tid), array_agg(j.queue) FILTER (WHERE j.key IS NOT NULL),
           array_agg(j.key) FILTER (WHERE j.key IS NOT NULL), array_agg(j.flow) FILTER (WHERE j.flow IS NOT NULL)
    INTO v_tids, v_had_queues, v_had_keys, v_flows
    FROM (
        SELECT j.ctid AS tid, j.queue, j.key,
               CASE WHEN j.stalls >= COALESCE(j.max_stalls, p_most) THEN j.flow END AS flow
        FROM muskox.jobs AS j
        WHERE j.state = 3 AND COALESCE(j.lease_until, 0) < v_now
        ORDER BY j.lease_until
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ) AS j;
    IF v_had_keys IS NOT NULL THEN
        SELECT l.queues, l.keys INTO v_had_queues, v_had_keys FROM muskox.try_keys(v_had_queues, v_had_keys) AS l;
    END IF;
    IF v_flows IS NOT NULL THEN
        v_flows := ARRAY(SELECT f.number FROM muskox.flows AS f WHERE f.number = ANY (v_flows) FOR UPDATE SKIP LOCKED);
    END IF;
    WITH lapsed AS MATERIALIZED (
        SELECT j.ctid AS tid, j.worker, j.stalls + 1 AS stalls, COALESCE(j.max_stalls, p_most) AS most
        FROM unnest(v_tids) AS t (tid) JOIN muskox.jobs AS j ON j.ctid = t.tid
        WHERE (j.key IS NULL
               OR (j.queue, j.key) IN (SELECT h.queue, h.key FROM unnest(v_had_queues, v_had_keys) AS h (queue, key)))
          -- The end of one changes the record of its flow.
          AND (j.flow IS NULL OR j.stalls < COALESCE(j.max_stalls, p_most) OR j.flow = ANY (v_flows))
    ), fate AS (
        SELECT p.*,
               -- As life.stall_delay: none after the first, then 2, 4, 8 … up to 60 seconds.
               CASE WHEN p.stalls <= 1 THEN 0 ELSE LEAST(60, 2 ^ LEAST(p.stalls - 1, 6))::bigint * 1000000 END AS delay,
               CASE WHEN p.stalls > p.most THEN json_build_object(
                   'kind', 'stalled', 'type', 'Stalled', 'message',
                   format('its lease ran out %s times, %s are allowed; last held by worker %s', p.stalls, p.most, p.worker)
               )::text END AS failure
        FROM lapsed AS p
    ), taken AS (
        UPDATE muskox.jobs AS j
        SET state = CASE WHEN f.failure IS NOT NULL THEN 5 WHEN f.delay > 0 THEN 1 WHEN j.key IS NULL THEN 0 ELSE 2 END,
            attempt = j.attempt - 1, stalls = f.stalls, token = NULL, lease_until = NULL,
            due = CASE WHEN f.failure IS NULL AND f.delay > 0 THEN v_now + f.delay END, arrival = v_now + f.delay,
            ended = CASE WHEN f.failure IS NOT NULL THEN v_now END, failure = COALESCE(f.failure, j.failure)
        FROM fate AS f
        WHERE j.ctid = f.tid
        RETURNING j.queue, j.lane, j.id, f.worker, j.attempt, j.stalls, j.state, f.failure, j.tied,
                  ROW(j.seq, j.queue, j.lane, j.attempt, 3, j.state, j.counted, j.id, j.key, j.flow)::muskox.move AS move
    )
    SELECT array_agg(t.queue), array_agg(t.lane), array_agg(t.id), array_agg(t.worker), array_agg(t.attempt),
           array_agg(t.stalls), array_agg(t.state), array_agg(t.failure), array_agg(t.move) FILTER (WHERE t.tied)
    INTO v_queues, v_lanes, v_ids, v_workers, v_attempts, v_stalls, v_states, v_failures, v_moves
    FROM taken AS t;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    PERFORM muskox.tell_moved(
        v_now, 'stalled', NULL, NULL, v_queues, v_lanes, v_ids, v_attempts,
        ARRAY(SELECT ',' || s FROM unnest(v_stalls) WITH ORDINALITY AS u (s, place) ORDER BY place));
    FOREACH v_state IN ARRAY ARRAY[0, 1, 2, 5]::smallint[] LOOP
        v_places := array_positions(v_states, v_state);
        IF cardinality(v_places) > 0 THEN
            PERFORM muskox.tell_moved(
                v_now, CASE v_state WHEN 0 THEN 'waiting' WHEN 1 THEN 'delayed' WHEN 5 THEN 'failed' END,
                array_fill(3::smallint, ARRAY[cardinality(v_places)]), v_state,
                ARRAY(SELECT v_queues[p] FROM unnest(v_places) AS p), ARRAY(SELECT v_lanes[p] FROM unnest(v_places) AS p),
                ARRAY(SELECT v_ids[p] FROM unnest(v_places) AS p), ARRAY(SELECT v_attempts[p] FROM unnest(v_places) AS p),
                ARRAY(SELECT ',' || v_failures[p] FROM unnest(v_places) AS p));
            IF v_state = 5 THEN
                v_queues := v_queues || muskox.add_later(
                    v_now, ARRAY(SELECT v_queues[p] FROM unnest(v_places) AS p), ARRAY(SELECT v_ids[p] FROM unnest(v_places) AS p));
            END IF;
        END IF;
    END LOOP;
    IF v_moves IS NOT NULL THEN
        SELECT f.queues INTO v_rung FROM muskox.follow(v_now, v_moves) AS f;
    END IF;
    RETURN QUERY
    SELECT q.name, t.id, t.worker, muskox.awaited(v_queues || v_rung)
    FROM unnest(v_queues[:cardinality(v_ids)], v_ids, v_workers) AS t (queue, id, worker) JOIN muskox.queues AS q ON q.id = t.queue;
END
$$;

-- Delete jobs that have just ended, by their moves, with their logs, and count them out.
CREATE FUNCTION muskox.drop_going(p_now bigint, p_moves muskox.move[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    DELETE FROM muskox.jobs AS j USING unnest(p_moves) AS m WHERE j.queue = m.queue AND j.id = m.id AND j.seq = m.seq;
    DELETE FROM muskox.logs AS g USING unnest(p_moves) AS m WHERE g.job = m.seq;
    PERFORM muskox.tell_moves(p_now, NULL, p_moves);
END
$$;

-- Delete rows by their places, with their logs, and count them out; a row that others are at is left to them.
CREATE FUNCTION muskox.drop_ended(p_now bigint, p_tids tid[]) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_dropped integer;
BEGIN
    WITH removed AS (
        DELETE FROM muskox.jobs AS j USING unnest(p_tids) AS p (tid)
        WHERE j.ctid = p.tid AND j.state >= 4
        RETURNING j.seq, j.lane, j.state
    ), lines AS (
        DELETE FROM muskox.logs AS g USING removed AS r WHERE g.job = r.seq
    ), counted AS (
        INSERT INTO muskox.pending (size, lane, moved, source)
        SELECT 0, r.lane, count(*), r.state FROM removed AS r GROUP BY r.lane, r.state
    )
    SELECT count(*) INTO v_dropped FROM removed;
    RETURN v_dropped;
END
$$;

-- Delete settled jobs past their time or beyond the count kept for their queue, oldest first, and old events. The
-- arrays are the rules: by queue, durations in microseconds and counts; an empty name is the rule of all others.
CREATE FUNCTION muskox.clear(
    p_now bigint, p_level text, p_queues text[], p_completed_for bigint[], p_completed_most bigint[],
    p_failed_for bigint[], p_failed_most bigint[], p_limit integer, p_events bigint
) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_horizon bigint;
    v_cleared integer := 0;
    v_of_state integer;
    v_rule integer;
    v_for bigint;
    v_most bigint;
    v_tids tid[];
    v_one record;
BEGIN
    PERFORM muskox.relax(p_level);
    PERFORM muskox.gather(true);
    SELECT max(o.first) INTO v_horizon FROM muskox.offsets AS o
    WHERE o.first <= (SELECT m.event FROM muskox.meta AS m) - p_events;
    WITH gone AS (
        DELETE FROM muskox.offsets AS o WHERE o.first < v_horizon RETURNING o.event
    )
    DELETE FROM muskox.events AS e USING gone AS g WHERE e.id = g.event;
    PERFORM muskox.dedup_sweep(v_now, p_limit);
    DELETE FROM muskox.tickets WHERE until < v_now;
    DELETE FROM muskox.waits AS w
    USING (SELECT o.ctid AS tid FROM muskox.waits AS o WHERE o.until < clock_timestamp() - interval '1 minute' FOR UPDATE SKIP LOCKED) AS o
    WHERE w.ctid = o.tid;
    DELETE FROM muskox.keys AS k
    USING (
        SELECT i.ctid AS tid FROM muskox.keys AS i WHERE i.idle_at <= v_now ORDER BY i.idle_at LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ) AS i
    WHERE k.ctid = i.tid;

    v_tids := ARRAY(SELECT j.ctid FROM muskox.jobs AS j WHERE j.clear_at <= v_now ORDER BY j.clear_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    v_cleared := muskox.drop_ended(v_now, v_tids);
    PERFORM muskox.gather(true);
    FOR v_one IN
        SELECT q.id, q.name, s.state, s.total
        FROM (
            SELECT l.queue, sum(f.completed) AS completed, sum(f.failed) AS failed, sum(f.cancelled) AS cancelled
            FROM muskox.lanes AS l JOIN muskox.figures AS f ON f.lane = l.id
            GROUP BY l.queue
        ) AS t
        JOIN muskox.queues AS q ON q.id = t.queue
        CROSS JOIN LATERAL (VALUES (4::smallint, t.completed), (5::smallint, t.failed), (6::smallint, t.cancelled)) AS s (state, total)
        WHERE s.total > 0
    LOOP
        v_rule := COALESCE(array_position(p_queues, v_one.name), array_position(p_queues, ''));
        v_for := CASE v_one.state WHEN 4 THEN p_completed_for[v_rule] ELSE p_failed_for[v_rule] END;
        v_most := CASE v_one.state WHEN 4 THEN p_completed_most[v_rule] ELSE p_failed_most[v_rule] END;
        EXIT WHEN v_cleared >= p_limit;
        v_tids := ARRAY(
            SELECT j.ctid FROM muskox.jobs AS j
            WHERE j.queue = v_one.id AND j.state = v_one.state AND j.ended IS NOT NULL AND j.ended < v_now - v_for
              AND j.clear_at IS NULL
            ORDER BY j.ended, j.seq
            LIMIT p_limit - v_cleared
            FOR UPDATE SKIP LOCKED
        );
        v_of_state := muskox.drop_ended(v_now, v_tids);
        v_cleared := v_cleared + v_of_state;
        IF v_one.total - v_most > v_of_state AND v_cleared < p_limit THEN
            v_tids := ARRAY(
                SELECT j.ctid FROM muskox.jobs AS j
                WHERE j.queue = v_one.id AND j.state = v_one.state AND j.ended IS NOT NULL
                ORDER BY j.ended, j.seq
                LIMIT LEAST(p_limit - v_cleared, v_one.total - v_most - v_of_state)
                FOR UPDATE SKIP LOCKED
            );
            v_cleared := v_cleared + muskox.drop_ended(v_now, v_tids);
        END IF;
    END LOOP;
    PERFORM muskox.clear_flows(v_now, p_limit);
    RETURN v_cleared;
END
$$;
