-- readers: 0008
-- Jobs that have to be begun in time, and the end of those that nobody comes for.

-- Jobs that have to be begun before a moment, to be looked at then; jobs that may be begun at any time are not here.
CREATE TABLE muskox.expiries (
    at bigint NOT NULL,
    queue integer NOT NULL,
    job text COLLATE "C" NOT NULL,
    PRIMARY KEY (at, queue, job)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 1000);

-- Have those of new jobs looked at when their time is over that have one.
CREATE FUNCTION muskox.expire_later(p_now bigint, p_queues integer[], p_ids text[], p_options text[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    INSERT INTO muskox.expiries (at, queue, job)
    SELECT p_now + floor(substring(n.options FROM '"expires_in":([0-9.eE+-]+)')::double precision * 1000000)::bigint + 1,
           n.queue, n.id
    FROM unnest(p_queues, p_ids, p_options) AS n (queue, id, options)
    WHERE position('"expires_in":' IN n.options) > 0
    ON CONFLICT DO NOTHING;
END
$$;

-- Fail jobs that had to be begun by now and that nobody has begun with, looking at p_limit at most; those that others are
-- at, and those whose key or flow somebody is at, are looked at later. The attempt is counted, as it is when a worker comes too
-- late, so that one that is retried by hand does not expire again. Gives the queues in which jobs may be claimed.
CREATE FUNCTION muskox.expire_jobs(p_now bigint, p_limit integer) RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_rows tid[];
    v_tids tid[];
    v_queues integer[];
    v_keys text[];
    v_flows bigint[];
    v_moves muskox.move[];
    v_tied muskox.move[];
    v_failures text[];
    v_rung integer[] := '{}';
BEGIN
    v_rows := ARRAY(
        SELECT e.ctid FROM muskox.expiries AS e WHERE e.at <= p_now ORDER BY e.at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    IF cardinality(v_rows) = 0 THEN
        RETURN v_rung;
    END IF;
    SELECT array_agg(l.tid), array_agg(l.queue) FILTER (WHERE l.key IS NOT NULL),
           array_agg(l.key) FILTER (WHERE l.key IS NOT NULL), array_agg(l.flow) FILTER (WHERE l.flow IS NOT NULL)
    INTO v_tids, v_queues, v_keys, v_flows
    FROM (
        SELECT j.ctid AS tid, j.queue, j.key, j.flow
        FROM unnest(v_rows) AS r (tid)
        JOIN muskox.expiries AS e ON e.ctid = r.tid
        JOIN muskox.jobs AS j ON j.queue = e.queue AND j.id = e.job
        WHERE j.state + 0 < 3 AND j.attempt = 0 AND j.stalls = 0
        FOR UPDATE OF j SKIP LOCKED
    ) AS l;
    IF v_keys IS NOT NULL THEN
        SELECT l.queues, l.keys INTO v_queues, v_keys FROM muskox.try_keys(v_queues, v_keys) AS l;
    END IF;
    IF v_flows IS NOT NULL THEN
        v_flows := ARRAY(SELECT f.number FROM muskox.flows AS f WHERE f.number = ANY (v_flows) FOR UPDATE SKIP LOCKED);
    END IF;
    WITH late AS MATERIALIZED (
        SELECT j.ctid AS tid, j.state AS was, j.bound, o.said
        FROM unnest(v_tids) AS t (tid)
        JOIN muskox.jobs AS j ON j.ctid = t.tid
        CROSS JOIN LATERAL (SELECT substring(j.options FROM '"expires_in":([0-9.eE+-]+)') AS said) AS o
        WHERE j.added + floor(o.said::double precision * 1000000) < p_now
          AND (j.key IS NULL OR j.bound
               OR (j.queue, j.key) IN (SELECT h.queue, h.key FROM unnest(v_queues, v_keys) AS h (queue, key)))
          AND (j.flow IS NULL OR j.flow = ANY (v_flows))
    ), failed AS (
        UPDATE muskox.jobs AS j
        SET state = 5, attempt = 1, ended = p_now, due = NULL, token = NULL, lease_until = NULL, bound = NULL,
            failure = json_build_object(
                'kind', 'expired', 'type', 'Expired', 'message',
                'not begun within ' || regexp_replace(l.said, '\.0$', '') || ' seconds after it was added', 'final', true
            )::text
        FROM late AS l
        WHERE j.ctid = l.tid
        RETURNING j.seq, j.tied, j.failure,
                  ROW(j.seq, j.queue, j.lane, j.attempt, l.was, 5, NULL, j.id, CASE WHEN l.bound IS NULL THEN j.key END,
                      j.flow)::muskox.move AS move
    )
    SELECT array_agg(f.move ORDER BY f.seq), array_agg(f.failure ORDER BY f.seq),
           array_agg(f.move ORDER BY f.seq) FILTER (WHERE f.tied)
    INTO v_moves, v_failures, v_tied
    FROM failed AS f;
    IF v_moves IS NOT NULL THEN
        PERFORM muskox.tell_moved(
            p_now, 'failed', ARRAY(SELECT m.source FROM unnest(v_moves) AS m), 5::smallint,
            ARRAY(SELECT m.queue FROM unnest(v_moves) AS m), ARRAY(SELECT m.lane FROM unnest(v_moves) AS m),
            ARRAY(SELECT m.id FROM unnest(v_moves) AS m), ARRAY(SELECT m.attempt FROM unnest(v_moves) AS m),
            ARRAY(SELECT ',' || f FROM unnest(v_failures) AS f));
        IF v_tied IS NOT NULL THEN
            SELECT COALESCE(f.queues, '{}') INTO v_rung FROM muskox.follow(p_now, v_tied) AS f;
        END IF;
        v_rung := v_rung || muskox.add_later(
            p_now, ARRAY(SELECT m.queue FROM unnest(v_moves) AS m), ARRAY(SELECT m.id FROM unnest(v_moves) AS m));
    END IF;
    -- What is left of them: jobs that run in their first attempt, which may be given back, and jobs whose time was changed
    -- or that somebody is at.
    WITH gone AS (
        DELETE FROM muskox.expiries AS e USING unnest(v_rows) AS r (tid) WHERE e.ctid = r.tid RETURNING e.queue, e.job
    )
    INSERT INTO muskox.expiries (at, queue, job)
    SELECT greatest(
               j.added + floor(substring(j.options FROM '"expires_in":([0-9.eE+-]+)')::double precision * 1000000)::bigint + 1,
               p_now + CASE WHEN j.state = 3 THEN 60000000 ELSE 1000000 END),
           g.queue, g.job
    FROM gone AS g JOIN muskox.jobs AS j ON j.queue = g.queue AND j.id = g.job
    WHERE j.stalls = 0 AND (j.state = 3 AND j.attempt = 1 OR j.state < 3 AND j.attempt = 0)
      AND position('"expires_in":' IN j.options) > 0
    ON CONFLICT DO NOTHING;
    RETURN v_rung;
END
$$;
