-- Verbs for jobs that somebody is tied to, and for limits themselves.

-- `add` for jobs of which some have a key: a key's jobs stand in line as far as they may, and are blocked else.
-- Returns the moment, the places (from 1) of the jobs that were known, the state of each that was not, and the bells.
CREATE FUNCTION muskox.add_tied(
    p_now bigint, p_level text, p_within boolean,
    p_queues integer[], p_lanes integer[], p_ids text[], p_ranks integer[], p_delays bigint[], p_attempts integer[],
    p_stalls integer[], p_options text[], p_data text[], p_keys text[], p_channel text
) RETURNS TABLE (at bigint, known integer[], states smallint[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_line bigint;
    v_moves muskox.move[];
    v_tied muskox.move[];
    v_opened bigint[];
    v_ids text[];
    v_queues integer[];
BEGIN
    IF NOT p_within THEN
        PERFORM muskox.relax(p_level);
    END IF;
    PERFORM muskox.lock_new(p_queues, p_keys);
    v_now := muskox.tick(p_now, NOT p_within);
    UPDATE muskox.queues AS q SET keyed = true
    WHERE NOT q.keyed AND q.id IN (SELECT w.queue FROM unnest(p_queues, p_keys) AS w (queue, key) WHERE w.key IS NOT NULL);
    SELECT greatest(last_value, v_now) INTO v_line FROM muskox.line;
    WITH new AS (
        SELECT n.*, row_number() OVER (PARTITION BY n.queue, n.key, n.delay > 0 ORDER BY n.place) AS nth
        FROM unnest(p_queues, p_lanes, p_ids, p_ranks, p_delays, p_attempts, p_stalls, p_options, p_data, p_keys)
             WITH ORDINALITY AS n (queue, lane, id, rank, delay, attempts, stalls, options, data, key, place)
    ), stored AS (
        INSERT INTO muskox.jobs
            (queue, lane, id, rank, state, arrival, stood, added, due, attempts, max_stalls, options, data, tied, key)
        SELECT n.queue, n.lane, n.id, n.rank, s.state, CASE WHEN s.state = 0 AND n.key IS NOT NULL THEN v_line ELSE v_now + n.delay END,
               CASE WHEN s.state = 0 AND n.key IS NOT NULL THEN v_now END, v_now, CASE WHEN n.delay > 0 THEN v_now + n.delay END,
               n.attempts, n.stalls, n.options, n.data, CASE WHEN n.key IS NOT NULL THEN true END, n.key
        FROM new AS n
        -- Behind those that are blocked already comes only what `follow` lets in.
        LEFT JOIN muskox.rooms(v_now, p_queues, p_keys) AS r
            ON r.queue = n.queue AND r.name = n.key AND r.blocked = 0
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN n.delay > 0 THEN 1
                WHEN n.key IS NULL OR (r.queue IS NOT NULL AND n.nth <= least(r.most, r.may) - r.open) THEN 0
                ELSE 2
            END AS state
        ) AS s
        ORDER BY n.place
        ON CONFLICT (queue, id) DO NOTHING
        RETURNING seq, queue, lane, state, id, key
    )
    SELECT array_agg(s.move), array_agg(s.move) FILTER (WHERE (s.move).key IS NOT NULL)
    INTO v_moves, v_tied
    FROM (
        SELECT ROW(s.seq, s.queue, s.lane, 0, NULL, s.state, NULL, s.id, s.key, NULL)::muskox.move AS move
        FROM stored AS s ORDER BY s.seq
    ) AS s;
    IF v_moves IS NOT NULL THEN
        PERFORM muskox.tell_moves(v_now, k.kind, m.moves)
        FROM (VALUES (1, 'waiting', '{0,2}'::smallint[]), (2, 'delayed', '{1}')) AS k (number, kind, states)
        CROSS JOIN LATERAL (
            SELECT array_agg(m::muskox.move) AS moves FROM unnest(v_moves) AS m WHERE m.target = ANY (k.states)
        ) AS m
        WHERE m.moves IS NOT NULL;
    END IF;
    IF v_tied IS NOT NULL THEN
        SELECT f.opened INTO v_opened FROM muskox.follow(v_now, v_tied) AS f;
    END IF;
    PERFORM muskox.keep_bounds(v_now, p_queues, p_ids);
    at := v_now;
    SELECT array_agg(one.state ORDER BY one.place), array_agg(one.place ORDER BY one.place) FILTER (WHERE one.state IS NULL)
    INTO states, known
    FROM (
        -- Of twins the first is the one that was stored.
        SELECT n.place, CASE WHEN row_number() OVER (PARTITION BY n.queue, n.id ORDER BY n.place) = 1
                             THEN CASE WHEN m.seq = ANY (v_opened) THEN 0 ELSE m.target END END::smallint AS state
        FROM unnest(p_queues, p_ids) WITH ORDINALITY AS n (queue, id, place)
        LEFT JOIN unnest(v_moves) AS m ON m.queue = n.queue AND m.id = n.id
    ) AS one;
    IF p_within THEN
        -- Told when the caller commits, whenever that is; twice the same is told once.
        PERFORM pg_notify(p_channel, q.name) FROM muskox.queues AS q WHERE q.id = ANY (p_queues);
        PERFORM pg_notify(p_channel, '');
    ELSE
        bells := muskox.awaited(p_queues);
    END IF;
    RETURN NEXT;
END
$$;

-- `complete` for jobs that somebody is tied to.
CREATE FUNCTION muskox.complete_tied(
    p_now bigint, p_level text, p_tids tid[], p_tokens bigint[], p_results text[],
    p_told_queues integer[], p_told_lanes integer[], p_told_sizes integer[], p_bodies text[]
) RETURNS TABLE (lost integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_queues integer[];
    v_keys text[];
    v_flows bigint[];
    v_rows bigint[];
    v_moves muskox.move[];
    v_over muskox.move[];
BEGIN
    PERFORM muskox.relax(p_level);
    SELECT array_agg(j.queue), array_agg(j.key), array_agg(j.flow), array_agg(j.seq) INTO v_queues, v_keys, v_flows, v_rows
    FROM unnest(p_tids, p_tokens) AS c (tid, token) JOIN muskox.jobs AS j ON j.ctid = c.tid AND j.token = c.token;
    -- Else what those are tied to that have moved is locked together with this.
    IF cardinality(v_rows) = cardinality(p_tids) THEN
        PERFORM muskox.lock_ties(v_queues, v_keys, v_flows, v_rows);
    END IF;
    v_now := muskox.tick(p_now, true);
    WITH done AS (
        UPDATE muskox.jobs AS j
        SET state = 4, ended = v_now, lease_until = NULL, failure = NULL, result = c.result
        FROM (
            SELECT u.tid, u.token, u.result FROM unnest(p_tids, p_tokens, p_results) AS u (tid, token, result) ORDER BY u.token
        ) AS c
        WHERE j.ctid = c.tid AND j.token = c.token AND j.state + 0 = 3
          AND cardinality(v_rows) = cardinality(p_tids)
        RETURNING ROW(j.seq, j.queue, j.lane, j.attempt, 3, 4, j.counted, j.id, j.key, j.flow)::muskox.move AS move,
                  position('"dedup":' IN j.options) > 0 AS unique_one
    )
    SELECT array_agg(d.move), array_agg(d.move) FILTER (WHERE d.unique_one) INTO v_moves, v_over FROM done AS d;
    IF cardinality(v_moves) = cardinality(p_tids) THEN
        WITH told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, t.queue, t.size, 'completed', t.body
            FROM unnest(p_told_queues, p_told_sizes, p_bodies) AS t (queue, size, body)
            RETURNING id, size
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
        INSERT INTO muskox.pending (size, lane, moved, source, target)
        SELECT 0, t.lane, t.size, 3, 4 FROM unnest(p_told_lanes, p_told_sizes) AS t (lane, size);
        SELECT f.queues INTO v_queues FROM muskox.follow(v_now, v_moves) AS f;
        IF v_over IS NOT NULL THEN
            v_queues := v_queues || muskox.add_later(
                v_now, ARRAY(SELECT o.queue FROM unnest(v_over) AS o), ARRAY(SELECT o.id FROM unnest(v_over) AS o));
        END IF;
    ELSE
        SELECT r.lost, r.queues INTO lost, v_queues
        FROM muskox.complete_rest(v_now, p_tokens, p_results, p_told_queues, p_told_lanes, p_bodies) AS r;
    END IF;
    bells := muskox.awaited(COALESCE(v_queues, '{}'));
    RETURN NEXT;
END
$$;

-- Lock the row of a queue's limits, made if there is none.
CREATE FUNCTION muskox.lock_limits(p_queue integer) RETURNS muskox.limits LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_row muskox.limits;
BEGIN
    INSERT INTO muskox.limits (queue, record) VALUES (p_queue, '{}') ON CONFLICT DO NOTHING;
    SELECT * INTO v_row FROM muskox.limits AS l WHERE l.queue = p_queue FOR UPDATE;
    RETURN v_row;
END
$$;

-- Put what holds for a queue; p_record says it all as JSON. Gaps, sizes and counts are NULL where there is no limit.
-- Jobs that run are counted once, when a concurrency is put; what is claimed in this very moment is not.
CREATE FUNCTION muskox.put_limits(
    p_now bigint, p_queue text, p_declared boolean, p_record text, p_concurrency integer, p_gap double precision,
    p_size integer, p_key_concurrency integer, p_key_gap double precision, p_key_size integer
) RETURNS TABLE (changed boolean, bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_queue integer := muskox.find_queue(p_queue);
    v_old muskox.limits;
    v_tids tid[];
    v_active integer;
BEGIN
    PERFORM muskox.tick(p_now, true);
    v_old := muskox.lock_limits(v_queue);
    changed := v_old.record <> p_record AND NOT (p_declared AND COALESCE(v_old.declared, '{}') = p_record);
    IF p_declared THEN
        UPDATE muskox.limits AS l SET declared = p_record WHERE l.queue = v_queue AND COALESCE(l.declared, '{}') <> p_record;
    END IF;
    IF changed THEN
        v_active := v_old.active;
        IF v_old.concurrency IS NULL AND p_concurrency IS NOT NULL THEN
            v_tids := ARRAY(
                SELECT j.ctid FROM muskox.jobs AS j WHERE j.state = 3 AND j.queue = v_queue ORDER BY j.token FOR UPDATE);
            WITH counted AS (
                UPDATE muskox.jobs AS j SET counted = true, tied = true
                FROM unnest(v_tids) AS t (tid)
                WHERE j.ctid = t.tid
                RETURNING 1
            )
            SELECT count(*) INTO v_active FROM counted;
        ELSIF p_concurrency IS NULL THEN
            v_active := 0;
        END IF;
        UPDATE muskox.limits AS l
        SET record = p_record, concurrency = p_concurrency, gap = p_gap, size = p_size, active = v_active,
            empty = CASE WHEN p_gap IS NOT NULL THEN l.empty END, key_concurrency = p_key_concurrency,
            key_gap = p_key_gap, key_size = p_key_size,
            sweep = CASE
                WHEN (l.key_concurrency, l.key_gap, l.key_size) IS DISTINCT FROM (p_key_concurrency, p_key_gap, p_key_size)
                     AND EXISTS (SELECT FROM muskox.keys AS k WHERE k.queue = v_queue)
                THEN '' ELSE l.sweep
            END
        WHERE l.queue = v_queue;
        UPDATE muskox.queues AS q
        SET limited = p_concurrency IS NOT NULL OR p_gap IS NOT NULL OR v_old.held_until IS NOT NULL
        WHERE q.id = v_queue;
        PERFORM muskox.put_bound(v_queue, p_record);
        bells := muskox.awaited(ARRAY[v_queue]);
    END IF;
    RETURN NEXT;
END
$$;

-- Put what holds for a key in place of the defaults; p_own says it all as JSON, NULL: nothing.
CREATE FUNCTION muskox.put_key(
    p_now bigint, p_queue text, p_key text, p_own text, p_concurrency integer, p_gap double precision, p_size integer,
    p_weight integer
) RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_queue integer := muskox.find_queue(p_queue);
    v_now bigint;
BEGIN
    PERFORM muskox.lock_keys(ARRAY[v_queue], ARRAY[p_key]);
    v_now := muskox.tick(p_now, true);
    UPDATE muskox.keys AS k
    SET own = p_own, concurrency = p_concurrency, gap = p_gap, size = p_size, weight = p_weight
    WHERE k.queue = v_queue AND k.name = p_key;
    PERFORM muskox.open_keys(v_now, ARRAY[v_queue], ARRAY[p_key], NULL, NULL, NULL, NULL, NULL);
    RETURN muskox.awaited(ARRAY[v_queue]);
END
$$;

-- Let nothing of a queue, or of a key of it, start for so long. A longer hold stays; a duration of 0 ends any.
CREATE FUNCTION muskox.hold(p_now bigint, p_queue integer, p_key text, p_duration bigint) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_until bigint := CASE WHEN p_duration > 0 THEN p_now + p_duration END;
BEGIN
    IF p_key IS NULL THEN
        PERFORM muskox.lock_limits(p_queue);
        UPDATE muskox.limits AS l SET held_until = CASE WHEN v_until IS NOT NULL THEN greatest(l.held_until, v_until) END
        WHERE l.queue = p_queue;
        UPDATE muskox.queues AS q SET limited = true WHERE q.id = p_queue AND NOT q.limited;
    ELSE
        PERFORM muskox.lock_keys(ARRAY[p_queue], ARRAY[p_key]);
        UPDATE muskox.keys AS k SET held_until = CASE WHEN v_until IS NOT NULL THEN greatest(k.held_until, v_until) END
        WHERE k.queue = p_queue AND k.name = p_key;
        PERFORM muskox.open_keys(p_now, ARRAY[p_queue], ARRAY[p_key], NULL, NULL, NULL, NULL, NULL);
    END IF;
END
$$;

-- `hold` by hand.
CREATE FUNCTION muskox.put_hold(p_now bigint, p_queue text, p_key text, p_duration bigint) RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_queue integer := muskox.find_queue(p_queue);
BEGIN
    PERFORM muskox.hold(muskox.tick(p_now, true), v_queue, p_key, p_duration);
    RETURN muskox.awaited(ARRAY[v_queue]);
END
$$;
