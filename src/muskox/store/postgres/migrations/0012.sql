-- Which of the waiting jobs a claim takes, by their order and by what limits and keys let start.

-- The oldest waiting job of each priority of a lane: found by jumping along the index from priority to priority, from
-- the lowest on and at most 64 of them.
CREATE FUNCTION muskox.oldest(p_lane integer) RETURNS TABLE (tid tid, arrival bigint, seq bigint)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    WITH RECURSIVE level (rank, depth) AS (
        SELECT (SELECT j.rank FROM muskox.jobs AS j
                WHERE j.lane = p_lane AND j.state = 0
                ORDER BY j.rank DESC, j.arrival DESC, j.seq DESC LIMIT 1), 1
        UNION ALL
        SELECT (SELECT j.rank FROM muskox.jobs AS j
                WHERE j.lane = p_lane AND j.state = 0 AND j.rank < level.rank
                ORDER BY j.rank DESC, j.arrival DESC, j.seq DESC LIMIT 1), level.depth + 1
        FROM level
        WHERE level.rank IS NOT NULL AND level.depth < 64
    )
    SELECT one.tid, one.arrival, one.seq
    FROM level CROSS JOIN LATERAL (
        SELECT j.ctid AS tid, j.arrival, j.seq FROM muskox.jobs AS j
        WHERE j.lane = p_lane AND j.state = 0 AND j.rank = level.rank
        ORDER BY j.arrival, j.seq LIMIT 1
    ) AS one
    WHERE level.rank IS NOT NULL
$$;

-- The places of the next jobs of a few lanes, locked: by turns of their queues, within a queue by priority and arrival,
-- whatever the lane; before them those in p_old. First they are looked up and then locked, so that a claim locks no
-- more than it takes; a little more is looked up, since others may be taking the first. None of those in p_done (not
-- NULL), of each of the queues p_capped at most so many, and none with a key where p_done is NULL.
CREATE FUNCTION muskox.pick(
    p_lanes integer[], p_queues integer[], p_limit integer, p_turn bigint, p_old tid[],
    p_done tid[], p_capped integer[], p_caps integer[]
) RETURNS tid[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_most integer := 2 * p_limit + 50 + COALESCE(cardinality(p_done), 0);
    v_full boolean;
    v_found tid[];
    v_picked tid[];
BEGIN
    IF cardinality(p_lanes) = 1 AND cardinality(p_old) = 0 AND cardinality(p_done) = 0 THEN
        SELECT array_agg(first.tid ORDER BY first.rank, first.arrival, first.seq) INTO v_picked
        FROM (
            SELECT j.ctid AS tid, j.rank, j.arrival, j.seq
            FROM muskox.jobs AS j
            WHERE j.lane = p_lanes[1] AND j.state = 0
            ORDER BY j.rank, j.arrival, j.seq
            LIMIT greatest(0, least(p_limit, p_caps[1]))
            FOR UPDATE SKIP LOCKED
        ) AS first;
        RETURN v_picked;
    END IF;
    FOR v_try IN 1..4 LOOP
        SELECT array_agg(tid ORDER BY place, turn) INTO v_found
        FROM (
            SELECT tid, min(place) AS place, min(turn) AS turn
            FROM (
                SELECT o.tid, o.number - cardinality(p_old) AS place, 0 AS turn
                FROM unnest(p_old) WITH ORDINALITY AS o (tid, number)
                UNION ALL
                SELECT j.tid, row_number() OVER (PARTITION BY l.queue ORDER BY j.rank, j.arrival, j.seq),
                       (l.number + p_turn) % l.queues
                FROM (
                    SELECT w.lane, w.queue, dense_rank() OVER (ORDER BY w.queue) AS number,
                           (SELECT count(DISTINCT q) FROM unnest(p_queues) AS q) AS queues
                    FROM unnest(p_lanes, p_queues) AS w (lane, queue)
                ) AS l
                CROSS JOIN LATERAL (
                    SELECT j.ctid AS tid, j.rank, j.arrival, j.seq FROM muskox.jobs AS j
                    WHERE j.lane = l.lane AND j.state = 0
                    ORDER BY j.rank, j.arrival, j.seq LIMIT v_most
                ) AS j
            ) AS candidate
            GROUP BY tid
            ORDER BY 2, 3
            LIMIT v_most
        ) AS first;
        IF v_found IS NULL THEN
            RETURN NULL;
        END IF;
        v_full := cardinality(v_found) >= v_most;
        IF p_done IS NOT NULL THEN
            v_found := ARRAY(
                SELECT one.tid
                FROM (
                    SELECT f.tid, f.number, j.queue, row_number() OVER (PARTITION BY j.queue ORDER BY f.number) AS nth
                    FROM unnest(v_found) WITH ORDINALITY AS f (tid, number) JOIN muskox.jobs AS j ON j.ctid = f.tid
                    WHERE f.tid <> ALL (p_done)
                ) AS one
                WHERE one.nth <= COALESCE(p_caps[array_position(p_capped, one.queue)], one.nth)
                ORDER BY one.number
            );
        END IF;
        SELECT array_agg(locked.tid ORDER BY locked.number) INTO v_picked
        FROM (
            SELECT j.ctid AS tid, f.number
            FROM unnest(v_found) WITH ORDINALITY AS f (tid, number) JOIN muskox.jobs AS j ON j.ctid = f.tid
            -- Not by the index of waiting jobs, but by the place.
            WHERE j.state + 0 = 0 AND (p_done IS NOT NULL OR j.key IS NULL)
            ORDER BY f.number
            LIMIT p_limit
            FOR UPDATE OF j SKIP LOCKED
        ) AS locked;
        IF v_picked IS NOT NULL OR NOT v_full THEN
            RETURN v_picked;
        END IF;
        -- Others are at all of them.
        v_most := v_most * 4;
    END LOOP;
    RETURN NULL;
END
$$;

-- Look at keys of queues whose moment has come, and at those whose defaults have changed, at most a hundred of each; one
-- that somebody else is at is looked at later. Gives the queues of which more may be claimed.
CREATE FUNCTION muskox.wake_keys(p_now bigint, p_queues integer[]) RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_queues integer[];
    v_keys text[];
    v_behind text[];
    v_opened muskox.move[];
    v_one record;
BEGIN
    SELECT array_agg(w.queue), array_agg(w.name) INTO v_queues, v_keys
    FROM (
        SELECT k.queue, k.name
        FROM unnest(p_queues) AS q (id)
        CROSS JOIN LATERAL (
            SELECT d.ctid AS tid FROM muskox.keys AS d
            WHERE d.queue = q.id AND d.look_at <= p_now
            ORDER BY d.look_at LIMIT 100
        ) AS d
        JOIN muskox.keys AS k ON k.ctid = d.tid
        FOR UPDATE OF k SKIP LOCKED
    ) AS w;
    IF v_queues IS NOT NULL THEN
        SELECT k.opened INTO v_opened FROM muskox.open_keys(p_now, v_queues, v_keys, NULL, NULL, NULL, NULL, NULL) AS k;
    END IF;
    FOR v_one IN
        SELECT l.queue, l.sweep FROM unnest(p_queues) AS q (id) JOIN muskox.limits AS l ON l.queue = q.id
        WHERE l.sweep IS NOT NULL
        FOR UPDATE OF l SKIP LOCKED
    LOOP
        v_behind := ARRAY(
            SELECT k.name FROM muskox.keys AS k
            WHERE k.queue = v_one.queue AND k.name > v_one.sweep
            ORDER BY k.name LIMIT 100
        );
        SELECT l.queues, l.keys INTO v_queues, v_keys
        FROM muskox.try_keys(array_fill(v_one.queue, ARRAY[cardinality(v_behind)]), v_behind) AS l;
        -- Up to the first that somebody else is at, who may not know the new defaults.
        v_behind := ARRAY(
            SELECT b.name
            FROM (
                SELECT u.name, bool_and(u.name = ANY (COALESCE(v_keys, '{}'))) OVER (ORDER BY u.place) AS had
                FROM unnest(v_behind) WITH ORDINALITY AS u (name, place)
            ) AS b
            WHERE b.had
        );
        IF v_queues IS NOT NULL THEN
            SELECT v_opened || k.opened INTO v_opened
            FROM muskox.open_keys(p_now, v_queues, v_keys, NULL, NULL, NULL, NULL, NULL) AS k;
        END IF;
        UPDATE muskox.limits AS l
        SET sweep = CASE
            WHEN cardinality(v_behind) > 0 THEN v_behind[cardinality(v_behind)]
            WHEN EXISTS (SELECT FROM muskox.keys AS k WHERE k.queue = l.queue AND k.name > l.sweep) THEN l.sweep
        END
        WHERE l.queue = v_one.queue;
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT o.queue FROM unnest(v_opened) AS o);
END
$$;

-- `pick` where there may be limits or keys: gives those that may start, counted by their keys and queues as if they had,
-- and lets the next of the keys into line. What may not start after all goes back to the line of its key; jobs of a key
-- that somebody else is at are passed over. p_raw is the moment in a world of its own.
-- `counted` are the queues that have a concurrency; from `moments` on, more of `queues` may be claimed.
CREATE FUNCTION muskox.pick_held(
    p_raw bigint, p_lanes integer[], p_lane_queues integer[], p_limit integer, p_turn bigint, p_old tid[]
) RETURNS TABLE (now bigint, picked tid[], counted integer[], queues integer[], moments bigint[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_variable
DECLARE
    v_all integer[] := ARRAY(SELECT DISTINCT q FROM unnest(p_lane_queues) AS q);
    v_limited integer[];
    v_old tid[] := p_old;
    v_capped integer[];
    v_caps integer[];
    v_over boolean;
    v_done tid[] := '{}';
    v_its record;
    v_more boolean;
    v_busy boolean := false;
    v_taken integer[] := '{}';
BEGIN
    v_limited := ARRAY(
        SELECT l.queue FROM muskox.limits AS l
        WHERE l.queue = ANY (v_all) AND (l.concurrency IS NOT NULL OR l.gap IS NOT NULL OR l.held_until IS NOT NULL)
        ORDER BY l.queue
        FOR UPDATE
    );
    now := muskox.tick(p_raw, true);
    PERFORM muskox.wake_keys(now, v_all);
    SELECT array_agg(s.queue) FILTER (WHERE s.may IS NOT NULL), array_agg(s.may) FILTER (WHERE s.may IS NOT NULL),
           array_agg(s.queue) FILTER (WHERE s.concurrency IS NOT NULL), bool_or(s.over)
    INTO v_capped, v_caps, counted, v_over
    -- A limit that is put in this very moment comes after this claim.
    FROM muskox.stand_limits(now, v_limited) AS s;
    IF v_over THEN
        PERFORM muskox.end_holds(now, v_limited);
    END IF;
    picked := '{}';
    FOR v_try IN 1..100 LOOP
        SELECT * INTO v_its FROM muskox.start_keys(p_raw, now, muskox.pick(
            p_lanes, p_lane_queues, p_limit - cardinality(picked), p_turn, v_old, v_done, v_capped, v_caps));
        EXIT WHEN v_its.seen IS NULL;
        now := v_its.now;
        v_old := '{}';
        v_done := v_done || v_its.seen;
        picked := picked || v_its.going;
        v_taken := v_taken || v_its.queues;
        v_busy := v_busy OR v_its.missed;
        EXIT WHEN cardinality(picked) >= p_limit OR NOT v_its.again;
        v_caps := ARRAY(
            SELECT c.cap - cardinality(array_positions(v_its.queues, c.queue))
            FROM unnest(v_capped, v_caps) WITH ORDINALITY AS c (queue, cap, place)
            ORDER BY c.place
        );
    END LOOP;
    IF v_capped IS NOT NULL AND cardinality(picked) > 0 THEN
        PERFORM muskox.take_slots(now, v_taken);
    END IF;
    IF cardinality(picked) < p_limit THEN
        SELECT array_agg(h.queue), array_agg(h.moment) INTO queues, moments
        FROM (
            SELECT q.id AS queue, least(
                       s.next, CASE WHEN k.look_at IS NOT NULL THEN greatest(k.look_at, now + 10000) END,
                       CASE WHEN v_busy OR s.sweep IS NOT NULL THEN now + 10000 END) AS moment
            FROM unnest(v_all) AS q (id)
            LEFT JOIN muskox.stand_limits(now, v_all) AS s ON s.queue = q.id
            LEFT JOIN LATERAL (
                SELECT d.look_at FROM muskox.keys AS d
                WHERE d.queue = q.id AND d.look_at IS NOT NULL
                ORDER BY d.look_at LIMIT 1
            ) AS k ON true
        ) AS h
        WHERE h.moment IS NOT NULL;
    END IF;
    IF cardinality(picked) = 0 THEN
        picked := NULL;
    END IF;
    RETURN NEXT;
END
$$;

-- Start these jobs, which are locked, as far as their keys let them: `going`, with the queue of each, out of `seen`.
-- `missed`: somebody else is at one of the keys; `again`: there may be more in line now.
CREATE FUNCTION muskox.start_keys(p_raw bigint, p_now bigint, p_tids tid[])
RETURNS TABLE (now bigint, seen tid[], going tid[], queues integer[], missed boolean, again boolean) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_variable
DECLARE
    v_keys text[];
    v_keyed integer;
    v_had record;
    v_open record;
    v_back tid[];
BEGIN
    now := p_now;
    seen := p_tids;
    going := p_tids;
    missed := false;
    again := false;
    SELECT array_agg(j.queue ORDER BY t.place), array_agg(j.key ORDER BY t.place), count(j.key)
    INTO queues, v_keys, v_keyed
    FROM unnest(p_tids) WITH ORDINALITY AS t (tid, place) JOIN muskox.jobs AS j ON j.ctid = t.tid;
    IF v_keyed > 0 THEN
        SELECT * INTO v_had FROM muskox.try_keys(queues, v_keys);
        -- Whoever was at a key before may have seen a later moment.
        now := muskox.tick(p_raw, true);
        missed := v_had.missed;
        IF missed THEN
            SELECT COALESCE(array_agg(t.tid ORDER BY t.place), '{}'), COALESCE(array_agg(t.queue ORDER BY t.place), '{}'),
                   COALESCE(array_agg(t.key ORDER BY t.place), '{}')
            INTO going, queues, v_keys
            FROM unnest(going, queues, v_keys) WITH ORDINALITY AS t (tid, queue, key, place)
            WHERE t.key IS NULL OR (t.queue, t.key) IN (SELECT h.queue, h.key FROM unnest(v_had.queues, v_had.keys) AS h (queue, key));
        END IF;
        SELECT * INTO v_open
        FROM muskox.open_keys(now, queues, v_keys, NULL, NULL, NULL, NULL, array_fill(1, ARRAY[cardinality(v_keys)]));
        IF v_open.short_keys IS NOT NULL THEN
            SELECT COALESCE(array_agg(t.tid ORDER BY t.place) FILTER (WHERE t.starts), '{}'),
                   COALESCE(array_agg(t.queue ORDER BY t.place) FILTER (WHERE t.starts), '{}'),
                   array_agg(t.tid ORDER BY t.place) FILTER (WHERE NOT t.starts)
            INTO going, queues, v_back
            FROM (
                SELECT t.tid, t.queue, t.place, COALESCE(
                           row_number() OVER (PARTITION BY t.queue, t.key ORDER BY t.place) <= s.go, true) AS starts
                FROM unnest(going, queues, v_keys) WITH ORDINALITY AS t (tid, queue, key, place)
                LEFT JOIN unnest(v_open.short_queues, v_open.short_keys, v_open.short_go) AS s (queue, key, go)
                    ON s.queue = t.queue AND s.key = t.key
            ) AS t;
            PERFORM muskox.send_back(now, v_back);
        END IF;
        again := missed OR v_open.short_keys IS NOT NULL OR v_open.opened IS NOT NULL;
    END IF;
    RETURN NEXT;
END
$$;

-- Let jobs that stand in line, and are counted as blocked by now, be blocked again.
CREATE FUNCTION muskox.send_back(p_now bigint, p_tids tid[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_moves muskox.move[];
BEGIN
    WITH back AS (
        UPDATE muskox.jobs AS j SET state = 2, arrival = COALESCE(j.stood, j.arrival)
        FROM unnest(p_tids) AS t (tid)
        WHERE j.ctid = t.tid
        RETURNING j.seq, ROW(j.seq, j.queue, j.lane, j.attempt, 0, 2, NULL, j.id, j.key, NULL)::muskox.move AS move
    )
    SELECT array_agg(b.move ORDER BY b.seq) INTO v_moves FROM back AS b;
    PERFORM muskox.tell_moves(p_now, NULL, v_moves);
    PERFORM muskox.tell_blocked(p_now, v_moves);
END
$$;

-- How the limits of queues stand: how many may start (NULL: any number), when more may, and whether a hold is over. Where
-- tokens come fast, what comes in ten milliseconds is waited for, if the bucket can hold twice as much.
CREATE FUNCTION muskox.stand_limits(p_now bigint, p_queues integer[])
RETURNS TABLE (queue integer, concurrency integer, may integer, next bigint, sweep text, over boolean) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT l.queue, l.concurrency,
           CASE WHEN l.held_until > p_now THEN 0 ELSE least(l.concurrency - l.active, t.tokens) END,
           CASE
               WHEN l.held_until > p_now THEN l.held_until
               WHEN t.tokens <= 0 AND (l.active < l.concurrency) IS NOT FALSE THEN
                   ceil(b.empty + greatest(1, least(l.size / 2, floor(10000 / l.gap))) * l.gap)::bigint
           END, l.sweep, l.held_until <= p_now
    FROM unnest(p_queues) AS q (id) JOIN muskox.limits AS l ON l.queue = q.id
    CROSS JOIN LATERAL (
        SELECT greatest(CASE WHEN l.empty > p_now THEN p_now ELSE l.empty END, p_now - l.size * l.gap) AS empty
    ) AS b
    CROSS JOIN LATERAL (
        SELECT least(l.size, floor((p_now - b.empty) / l.gap + 0.000001))::integer AS tokens
    ) AS t;
END
$$;

-- Forget holds of queues that are over.
CREATE FUNCTION muskox.end_holds(p_now bigint, p_queues integer[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    UPDATE muskox.limits AS l SET held_until = NULL WHERE l.queue = ANY (p_queues) AND l.held_until <= p_now;
    UPDATE muskox.queues AS q SET limited = false
    FROM muskox.limits AS l
    WHERE q.id = ANY (p_queues) AND q.limited AND l.queue = q.id AND l.held_until IS NULL AND l.concurrency IS NULL
      AND l.gap IS NULL;
END
$$;

-- Count jobs that start by the limits of their queues; p_queues has one entry per job.
CREATE FUNCTION muskox.take_slots(p_now bigint, p_queues integer[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    UPDATE muskox.limits AS l
    SET active = CASE WHEN l.concurrency IS NULL THEN 0 ELSE l.active + t.jobs END,
        empty = greatest(CASE WHEN l.empty > p_now THEN p_now ELSE l.empty END, p_now - l.size * l.gap) + t.jobs * l.gap
    FROM (SELECT u.queue, count(*) AS jobs FROM unnest(p_queues) AS u (queue) GROUP BY u.queue) AS t
    WHERE l.queue = t.queue AND (l.concurrency IS NOT NULL OR l.gap IS NOT NULL);
END
$$;
