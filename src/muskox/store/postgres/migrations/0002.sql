-- What all steps share: clock, lanes, facts, offsets, bells. `p_` begins every parameter.
--
-- A function is never given another meaning after a release: a release that needs one adds a function, so that
-- the release before runs beside it. The search path is pinned, so that nothing of a caller's stands before what is
-- built in. Functions that touch jobs switch off the ways of reading that would cost the
-- table and not the page, since a plan made while a table was small is kept when it has grown.

-- The machine's time, or that of the world that the caller says.
CREATE FUNCTION muskox.machine(p_now bigint) RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(p_now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

-- The store's clock for whoever only looks: it stands still while the machine's is a little behind.
CREATE FUNCTION muskox.moment(p_now bigint) RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN last_value - machine BETWEEN 0 AND 60000000 THEN last_value ELSE machine END
    FROM muskox.clock, muskox.machine(p_now) AS machine
$$;

-- The store's clock for whoever writes. A machine whose clock is more than a minute behind was set back on purpose:
-- leases and holds are durations and move with it, once, by whoever sees it first and is in no transaction of a caller's.
CREATE FUNCTION muskox.tick(p_now bigint, p_shift boolean) RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_machine bigint := COALESCE(p_now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    v_known bigint;
BEGIN
    SELECT last_value INTO v_known FROM muskox.clock;
    IF v_machine >= v_known THEN
        -- Written once a second at most: less than that a clock may go back unseen.
        IF v_machine > v_known + 1000000 THEN
            PERFORM setval('muskox.clock', v_machine);
        END IF;
        RETURN v_machine;
    END IF;
    IF v_known - v_machine <= 60000000 THEN
        RETURN v_known;
    END IF;
    IF p_shift THEN
        PERFORM FROM muskox.meta FOR UPDATE;
        SELECT last_value INTO v_known FROM muskox.clock;
        IF v_known - v_machine > 60000000 THEN
            UPDATE muskox.jobs SET lease_until = lease_until - (v_known - v_machine) WHERE state = 3;
            UPDATE muskox.limits
            SET held_until = held_until - (v_known - v_machine), empty = CASE WHEN empty > v_machine THEN v_machine ELSE empty END
            WHERE held_until IS NOT NULL OR empty > v_machine;
            UPDATE muskox.keys
            SET held_until = held_until - (v_known - v_machine), look_at = CASE WHEN look_at IS NOT NULL THEN v_machine END,
                empty = CASE WHEN empty > v_machine THEN v_machine ELSE empty END
            WHERE look_at IS NOT NULL OR held_until IS NOT NULL OR empty > v_machine;
            PERFORM setval('muskox.clock', v_machine);
        END IF;
    END IF;
    RETURN v_machine;
END
$$;

-- Let fences go on above the clock, so that a restored backup repeats none; one of those that see the need does it.
-- After a crash everybody waits for the first, who goes over all that may have been given and lost: what is not flushed
-- is younger than a second, in which nobody gives a million.
CREATE FUNCTION muskox.lift_tokens(p_now bigint) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_key integer := 'muskox.tokens'::regclass::oid::bigint % 2147483647;
    v_known bigint;
    v_awake boolean;
BEGIN
    SELECT last_value, EXISTS (SELECT FROM muskox.awake) INTO v_known, v_awake FROM muskox.tokens;
    IF v_awake AND p_now <= v_known + 1000000 THEN
        RETURN;
    END IF;
    IF NOT v_awake THEN
        PERFORM pg_advisory_xact_lock(775567, v_key);
    ELSIF NOT pg_try_advisory_xact_lock(775567, v_key) THEN
        RETURN;
    END IF;
    SELECT last_value, EXISTS (SELECT FROM muskox.awake) INTO v_known, v_awake FROM muskox.tokens;
    IF NOT v_awake THEN
        -- The next crash must not undo this.
        PERFORM set_config('synchronous_commit', 'on', true);
        INSERT INTO muskox.awake VALUES (p_now);
        PERFORM setval('muskox.tokens', greatest(p_now, v_known + 1000000));
    ELSIF p_now > v_known + 1000000 THEN
        PERFORM setval('muskox.tokens', p_now);
    END IF;
END
$$;

-- For steps whose loss in a crash of the server only means that they are done again.
CREATE FUNCTION muskox.relax(p_level text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    IF p_level <> '' THEN
        PERFORM set_config('synchronous_commit', p_level, true);
    END IF;
END
$$;

-- The numbers of lanes by queue and name, made if there are none; in a transaction of its own.
CREATE FUNCTION muskox.find_lanes(p_queues text[], p_names text[])
RETURNS TABLE (queue_name text, lane_name text, queue_id integer, lane_id integer) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    INSERT INTO muskox.queues (name)
    SELECT DISTINCT w.name FROM unnest(p_queues) AS w (name)
    WHERE NOT EXISTS (SELECT FROM muskox.queues AS q WHERE q.name = w.name)
    ORDER BY 1
    ON CONFLICT DO NOTHING;
    INSERT INTO muskox.lanes (queue, name, label)
    SELECT DISTINCT q.id, w.name, to_json(w.name)::text
    FROM unnest(p_queues, p_names) AS w (queue, name) JOIN muskox.queues AS q ON q.name = w.queue
    WHERE NOT EXISTS (SELECT FROM muskox.lanes AS l WHERE l.queue = q.id AND l.name = w.name)
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
    RETURN QUERY
    SELECT DISTINCT q.name, l.name, q.id, l.id
    FROM unnest(p_queues, p_names) AS w (queue, name)
    JOIN muskox.queues AS q ON q.name = w.queue JOIN muskox.lanes AS l ON l.queue = q.id AND l.name = w.name;
END
$$;

-- The number of a queue, made if there is none.
CREATE FUNCTION muskox.find_queue(p_queue text) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_id integer;
BEGIN
    LOOP
        SELECT id INTO v_id FROM muskox.queues WHERE name = p_queue;
        IF FOUND THEN
            RETURN v_id;
        END IF;
        INSERT INTO muskox.queues (name) VALUES (p_queue) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- Append one record of facts. It has no offset before it is gathered.
CREATE FUNCTION muskox.tell(p_queue integer, p_kind text, p_at bigint, p_size integer, p_body text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_id bigint;
BEGIN
    INSERT INTO muskox.events (at, queue, size, kind, body) VALUES (p_at, p_queue, p_size, p_kind, p_body)
    RETURNING id INTO v_id;
    INSERT INTO muskox.pending (event, size, moved) VALUES (v_id, p_size, 0);
END
$$;

-- Which of the bells somebody waits for: queues by name, and '' for events.
CREATE FUNCTION muskox.awaited(p_queues integer[]) RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM muskox.waits) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT array_agg(DISTINCT w.queue)
        FROM muskox.waits AS w
        WHERE w.until > clock_timestamp()
          AND (w.queue = '' OR w.queue IN (SELECT q.name FROM muskox.queues AS q WHERE q.id = ANY (p_queues)))
    );
END
$$;

-- Ask to be woken, for some seconds; returns whether this was asked already.
CREATE FUNCTION muskox.await(p_waiter text, p_queues text[], p_seconds double precision)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_known integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT count(*) INTO v_known FROM muskox.waits
    WHERE waiter = p_waiter AND queue = ANY (p_queues) AND until > clock_timestamp();
    INSERT INTO muskox.waits (waiter, queue, until)
    SELECT DISTINCT p_waiter, queue, clock_timestamp() + make_interval(secs => p_seconds) FROM unnest(p_queues) AS queue
    ORDER BY 2
    ON CONFLICT (waiter, queue) DO UPDATE SET until = excluded.until;
    RETURN v_known = cardinality(p_queues);
END
$$;

-- Ring bells. The transaction waits for no disk, since a notification holds a lock on all of the database.
CREATE FUNCTION muskox.ring(p_channel text, p_bells text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_notify(p_channel, bell) FROM unnest(p_bells) AS bell;
END
$$;

-- Give offsets to the events that are committed and have none, and bring the figures up to date.
-- The order of events is the order of their ids; a job's moves draw theirs while they hold its row, one after the other.
CREATE FUNCTION muskox.gather(p_wait boolean) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_key integer := 'muskox.pending'::regclass::oid::bigint % 2147483647;
BEGIN
    -- What another gathering has taken is seen here until it is committed, so nothing to see is nothing to wait for.
    IF NOT EXISTS (SELECT FROM muskox.pending) THEN
        RETURN;
    END IF;
    IF p_wait THEN
        PERFORM pg_advisory_xact_lock(775566, v_key);
    ELSIF NOT pg_try_advisory_xact_lock(775566, v_key) THEN
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM muskox.pending RETURNING event, size, lane, moved, source, target
    ), placed AS (
        SELECT event, size, sum(size) OVER (ORDER BY event) AS upto FROM gone WHERE event IS NOT NULL
    ), numbered AS (
        INSERT INTO muskox.offsets (first, event, size)
        SELECT meta.event + placed.upto - placed.size, placed.event, placed.size FROM placed, muskox.meta
    ), change AS (
        SELECT lane, state, sum(moved) AS moved
        FROM (
            SELECT lane, target AS state, moved FROM gone WHERE target IS NOT NULL
            UNION ALL SELECT lane, source, -moved FROM gone WHERE source IS NOT NULL
            UNION ALL SELECT lane, 7, moved FROM gone WHERE source IS NULL AND target IS NOT NULL
        ) AS one
        GROUP BY lane, state
    ), total AS (
        SELECT lane,
               COALESCE(sum(moved) FILTER (WHERE state = 0), 0) AS waiting,
               COALESCE(sum(moved) FILTER (WHERE state = 1), 0) AS delayed,
               COALESCE(sum(moved) FILTER (WHERE state = 2), 0) AS blocked,
               COALESCE(sum(moved) FILTER (WHERE state = 3), 0) AS active,
               COALESCE(sum(moved) FILTER (WHERE state = 4), 0) AS completed,
               COALESCE(sum(moved) FILTER (WHERE state = 5), 0) AS failed,
               COALESCE(sum(moved) FILTER (WHERE state = 6), 0) AS cancelled,
               COALESCE(sum(moved) FILTER (WHERE state = 7), 0) AS added
        FROM change
        GROUP BY lane
    ), kept AS (
        INSERT INTO muskox.figures AS f (lane, waiting, delayed, blocked, active, completed, failed, cancelled, added)
        SELECT t.lane, t.waiting, t.delayed, t.blocked, t.active, t.completed, t.failed, t.cancelled, t.added FROM total AS t
        ON CONFLICT (lane) DO UPDATE
        SET waiting = f.waiting + excluded.waiting, delayed = f.delayed + excluded.delayed,
            blocked = f.blocked + excluded.blocked, active = f.active + excluded.active,
            completed = f.completed + excluded.completed, failed = f.failed + excluded.failed,
            cancelled = f.cancelled + excluded.cancelled, added = f.added + excluded.added
    )
    UPDATE muskox.meta SET event = meta.event + told.size
    FROM (SELECT sum(size) AS size FROM placed) AS told
    WHERE told.size IS NOT NULL;
END
$$;

-- Read events after an offset; everything that is committed has its offset first.
-- The first row is none: its `first` is the lowest offset kept, its `body` the next one to be given.
CREATE FUNCTION muskox.read_events(p_now bigint, p_after bigint, p_queue text, p_limit integer)
RETURNS TABLE (first bigint, size integer, queue text, kind text, at bigint, body text) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM muskox.gather(true);
    RETURN QUERY
    SELECT (SELECT min(o.first) FROM muskox.offsets AS o), 0, NULL::text, NULL::text, muskox.moment(p_now), m.event::text
    FROM muskox.meta AS m;
    IF p_after < 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT f.first, f.size, f.name, f.kind, f.at, f.body
    FROM (
        SELECT o.first, o.size, q.name, e.kind, e.at, e.body, sum(o.size) OVER (ORDER BY o.first) AS upto
        FROM (
            SELECT o.first, o.size, o.event
            FROM muskox.offsets AS o
            WHERE o.first > COALESCE((SELECT max(b.first) FROM muskox.offsets AS b WHERE b.first <= p_after + 1), 0) - 1
              AND (p_queue IS NULL OR EXISTS (
                  SELECT FROM muskox.events AS e JOIN muskox.queues AS q ON q.id = e.queue
                  WHERE e.id = o.event AND q.name = p_queue))
            ORDER BY o.first
            LIMIT p_limit + 1
        ) AS o
        JOIN muskox.events AS e ON e.id = o.event JOIN muskox.queues AS q ON q.id = e.queue
    ) AS f
    -- The first record may begin before the offset that is asked for.
    WHERE f.upto - f.size < p_limit + COALESCE((SELECT b.size FROM muskox.offsets AS b WHERE b.first <= p_after + 1 ORDER BY b.first DESC LIMIT 1), 0)
    ORDER BY f.first;
END
$$;

-- The figures of the lanes as of now: those gathered, and what has come since. A lane that never had a job has none.
CREATE VIEW muskox.counted AS
SELECT lane, sum(waiting)::bigint AS waiting, sum(delayed)::bigint AS delayed, sum(blocked)::bigint AS blocked,
       sum(active)::bigint AS active, sum(completed)::bigint AS completed, sum(failed)::bigint AS failed,
       sum(cancelled)::bigint AS cancelled, sum(added)::bigint AS added
FROM (
    SELECT lane, waiting, delayed, blocked, active, completed, failed, cancelled, added FROM muskox.figures
    UNION ALL
    SELECT p.lane, s.by * (s.state = 0)::integer, s.by * (s.state = 1)::integer, s.by * (s.state = 2)::integer,
           s.by * (s.state = 3)::integer, s.by * (s.state = 4)::integer, s.by * (s.state = 5)::integer,
           s.by * (s.state = 6)::integer, s.by * (s.state = 7)::integer
    FROM muskox.pending AS p CROSS JOIN LATERAL (
        VALUES (p.target, p.moved), (p.source, -p.moved), (CASE WHEN p.source IS NULL AND p.target IS NOT NULL THEN 7 END, p.moved)
    ) AS s (state, by)
    WHERE s.state IS NOT NULL
) AS one
GROUP BY lane;
