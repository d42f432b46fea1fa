-- readers: 0008
-- Dedup keys: which job of a queue has which. Whether it still counts is told by the job (docs/decisions/dedup.md).
--
-- Whoever adds a job that another makes superfluous only looks. Else the row of the key is locked, after that of the job
-- where that is to be replaced; several keys in their order. Whoever ends a job locks its key after it.

-- `kind`: 0 until it has started · 1 until it has ended · 2 for a window, which is over at `over`.
-- `look` is when clear looks at it, and `later` a job that is added when this one has ended, an item as for `add_once`.
CREATE TABLE muskox.dedups (
    over bigint,
    look bigint NOT NULL,
    queue integer NOT NULL,
    kind smallint NOT NULL,
    key text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    later text COLLATE "C",
    PRIMARY KEY (queue, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 1000);

CREATE INDEX dedups_job ON muskox.dedups (queue, job);
CREATE INDEX dedups_look ON muskox.dedups (look);

-- The job that has a key, or had it; of one that is gone nothing else is there, also when a later job was given its id,
-- which knows nothing of the key. `counts`: the key is not free;
-- `unbegun`: nobody has begun with it.
CREATE FUNCTION muskox.dedup_holder(p_now bigint, p_queue integer, p_key text)
RETURNS TABLE (
    job text, kind smallint, state smallint, lane integer, rank integer, attempt integer, counts boolean, unbegun boolean
) LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT d.job, d.kind, j.state, j.lane, j.rank, j.attempt,
           COALESCE(CASE d.kind
               WHEN 0 THEN j.state < 3 AND j.started IS NULL
               WHEN 1 THEN j.state <= 3
               ELSE p_now < d.over
           END, false),
           COALESCE(j.state < 3 AND j.started IS NULL, false)
    FROM muskox.dedups AS d
    LEFT JOIN muskox.jobs AS j ON j.queue = d.queue AND j.id = d.job AND j.options::json -> 'dedup' ->> 'key' = d.key
    WHERE d.queue = p_queue AND d.key = p_key
$$;

-- Let a job have its key, whose row is locked or not there.
CREATE FUNCTION muskox.dedup_hold(
    p_now bigint, p_queue integer, p_key text, p_job text, p_kind smallint, p_window bigint, p_added bigint
) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_over bigint := CASE WHEN p_kind = 2 THEN p_added + p_window END;
BEGIN
    INSERT INTO muskox.dedups AS d (queue, key, job, kind, over, look)
    VALUES (p_queue, p_key, p_job, p_kind, v_over, greatest(p_now + 3600000000, v_over))
    ON CONFLICT (queue, key) DO UPDATE
    SET job = excluded.job, kind = excluded.kind, over = excluded.over, look = excluded.look,
        later = CASE WHEN d.job = excluded.job THEN d.later END;
END
$$;

-- Put a new job in the place of one that nobody has begun with, whose row is locked. Gives whether it has stayed where it
-- was; else it has been taken out, to be added anew.
CREATE FUNCTION muskox.dedup_replace(
    p_now bigint, p_queue integer, p_id text, p_lane integer, p_rank integer, p_delay bigint, p_attempts integer,
    p_stalls integer, p_options text, p_data text, p_key text
) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_job muskox.jobs;
BEGIN
    SELECT * INTO v_job FROM muskox.jobs AS j WHERE j.queue = p_queue AND j.id = p_id;
    PERFORM muskox.tell_moved(p_now, 'updated', NULL, NULL, ARRAY[p_queue], ARRAY[v_job.lane], ARRAY[p_id],
                              ARRAY[v_job.attempt], NULL);
    IF v_job.state IN (0, 2) AND p_delay <= 0 AND v_job.lane = p_lane AND v_job.rank = p_rank
       AND v_job.key IS NOT DISTINCT FROM p_key THEN
        UPDATE muskox.jobs AS j
        SET data = p_data, options = p_options, attempts = p_attempts, max_stalls = p_stalls, added = p_now
        WHERE j.queue = p_queue AND j.id = p_id;
        RETURN true;
    END IF;
    DELETE FROM muskox.jobs AS j WHERE j.queue = p_queue AND j.id = p_id;
    DELETE FROM muskox.logs AS g WHERE g.job = v_job.seq;
    INSERT INTO muskox.pending (size, lane, moved, source) VALUES (0, v_job.lane, 1, v_job.state);
    IF v_job.tied THEN
        PERFORM muskox.lock_keys(ARRAY[p_queue], ARRAY[v_job.key]);
        PERFORM muskox.follow(p_now, ARRAY[ROW(
            v_job.seq, p_queue, v_job.lane, v_job.attempt, v_job.state, NULL, NULL, p_id, v_job.key, NULL)::muskox.move]);
    END IF;
    RETURN false;
END
$$;

-- What becomes of one new job with a dedup key: NULL when it is to be stored, and now has the key; else the id of the job
-- that has it. `anew`: that one has been taken out, and the new one is to be stored under its id. `refused`: nothing
-- was done, and nothing of the add is to be.
CREATE FUNCTION muskox.dedup_meet(
    p_now bigint, p_queue integer, p_lane integer, p_id text, p_rank integer, p_delay bigint, p_attempts integer,
    p_stalls integer, p_options text, p_data text, p_key text, p_kind smallint, p_window bigint, p_then text, p_item text,
    OUT holder text, OUT anew boolean, OUT refused boolean
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_replaces boolean := p_then IN ('replace', 'keep-last');
    v_had record;
    v_has record;
BEGIN
    anew := false;
    refused := false;
    LOOP
        -- Waits for another that is adding the first job with this key.
        INSERT INTO muskox.dedups (queue, key, job, kind, over, look)
        VALUES (p_queue, p_key, p_id, p_kind, CASE WHEN p_kind = 2 THEN p_now + p_window END,
                p_now + greatest(3600000000, p_window))
        ON CONFLICT (queue, key) DO NOTHING;
        IF FOUND THEN
            RETURN;
        END IF;
        SELECT * INTO v_had FROM muskox.dedup_holder(p_now, p_queue, p_key);
        CONTINUE WHEN NOT FOUND;
        IF v_had.counts AND (v_had.state IS NULL OR NOT v_replaces) THEN
            holder := v_had.job;
            refused := p_then = 'reject';
            RETURN;
        END IF;
        IF v_had.counts AND v_had.unbegun THEN
            PERFORM FROM muskox.jobs AS j
            WHERE j.queue = p_queue AND j.id = v_had.job AND j.state + 0 < 3 AND j.started IS NULL
            FOR UPDATE;
            CONTINUE WHEN NOT FOUND;
        END IF;
        PERFORM FROM muskox.dedups AS d WHERE d.queue = p_queue AND d.key = p_key AND d.job = v_had.job FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        SELECT * INTO v_has FROM muskox.dedup_holder(p_now, p_queue, p_key);
        CONTINUE WHEN v_has.counts <> v_had.counts OR v_has.unbegun <> v_had.unbegun;
        IF v_has.counts THEN
            holder := v_has.job;
        END IF;
        IF NOT v_has.counts THEN
            PERFORM muskox.dedup_hold(p_now, p_queue, p_key, p_id, p_kind, p_window, p_now);
        ELSIF v_has.unbegun THEN
            anew := NOT muskox.dedup_replace(p_now, p_queue, holder, p_lane, p_rank, p_delay, p_attempts, p_stalls,
                                             p_options, p_data, p_item::json ->> 'key');
            PERFORM muskox.dedup_hold(p_now, p_queue, p_key, holder, p_kind, p_window, p_now);
        ELSIF p_then = 'keep-last' AND v_has.state <= 3 THEN
            UPDATE muskox.dedups AS d SET later = p_item WHERE d.queue = p_queue AND d.key = p_key;
        END IF;
        RETURN;
    END LOOP;
END
$$;

-- Store jobs, all or none, but for those whose dedup key another has. p_items is a JSON array of objects: place (from 1),
-- queue, lane, id, rank, delay, attempts, stalls, options, data, and of those with a key dedup, kind, window, next_to
-- (what becomes of it), and expires, the microseconds in which it has to be begun. Returns the moment, the place of one that was refused, with which nothing is stored, the
-- places of jobs that were not stored, and the ids of those that are there in place of them (NULL: their own), the states
-- of all by their places where some have a key, and bells.
CREATE FUNCTION muskox.add_once(p_now bigint, p_level text, p_within boolean, p_items json, p_channel text)
RETURNS TABLE (at bigint, refused integer, places integer[], ids text[], states smallint[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_one record;
    v_met record;
    v_holders text[] := '{}';
    v_anew integer[] := '{}';
    v_jobs record;
    v_runs record;
    v_known integer[];
BEGIN
    IF NOT p_within THEN
        PERFORM muskox.relax(p_level);
    END IF;
    -- With the keys of those in whose places they may be put.
    PERFORM muskox.lock_new(
        array_agg(i.queue) || array_agg(i.queue) FILTER (WHERE j.key IS NOT NULL), array_agg(i.key) || array_agg(j.key) FILTER (WHERE j.key IS NOT NULL))
    FROM json_to_recordset(p_items) AS i (queue integer, key text, dedup text, next_to text)
    LEFT JOIN muskox.dedups AS d ON d.queue = i.queue AND d.key = i.dedup AND i.next_to IN ('replace', 'keep-last')
    LEFT JOIN muskox.jobs AS j ON j.queue = d.queue AND j.id = d.job AND j.key IS NOT NULL;
    v_now := muskox.tick(p_now, NOT p_within);
    at := v_now;
    places := '{}';
    BEGIN
        FOR v_one IN
            SELECT i.*, e.item::text AS item
            FROM json_array_elements(p_items) AS e (item)
            CROSS JOIN LATERAL json_to_record(e.item) AS i (
                place integer, queue integer, lane integer, id text, rank integer, delay bigint, attempts integer,
                stalls integer, options text, data text, dedup text, kind smallint, "window" bigint, next_to text)
            WHERE i.dedup IS NOT NULL
              AND NOT EXISTS (SELECT FROM muskox.jobs AS j WHERE j.queue = i.queue AND j.id = i.id)
            ORDER BY i.queue, i.dedup COLLATE "C"
        LOOP
            SELECT * INTO v_met FROM muskox.dedup_meet(
                v_now, v_one.queue, v_one.lane, v_one.id, v_one.rank, v_one.delay, v_one.attempts, v_one.stalls,
                v_one.options, v_one.data, v_one.dedup, v_one.kind, v_one."window", v_one.next_to, v_one.item);
            IF v_met.refused THEN
                refused := v_one.place;
                ids := ARRAY[v_met.holder];
                RAISE EXCEPTION USING ERRCODE = 'MX009';
            END IF;
            IF v_met.holder IS NOT NULL THEN
                places := places || v_one.place;
                v_holders := v_holders || v_met.holder;
                IF v_met.anew THEN
                    v_anew := v_anew || v_one.place;
                END IF;
            END IF;
        END LOOP;
    EXCEPTION WHEN SQLSTATE 'MX009' THEN
        RETURN NEXT;
        RETURN;
    END;
    ids := v_holders;

    SELECT array_agg(n.place) AS places, array_agg(n.queue) AS queues, array_agg(n.lane) AS lanes, array_agg(n.id) AS ids,
           array_agg(n.rank) AS ranks, array_agg(n.delay) AS delays, array_agg(n.attempts) AS attempts,
           array_agg(n.stalls) AS stalls, array_agg(n.options) AS options, array_agg(n.data) AS data,
           array_agg(n.key) AS keys, count(n.key) AS keyed
    INTO v_jobs
    FROM (
        SELECT i.place, i.queue, i.lane, COALESCE(v_holders[array_position(places, i.place)], i.id) AS id, i.rank, i.delay,
               i.attempts, i.stalls, i.options, i.data, i.key
        FROM json_to_recordset(p_items) AS i (
            place integer, queue integer, lane integer, id text, rank integer, delay bigint, attempts integer,
            stalls integer, options text, data text, key text)
        WHERE i.place <> ALL (places) OR i.place = ANY (v_anew)
        ORDER BY i.place
    ) AS n;
    IF v_jobs.keyed > 0 THEN
        SELECT a.known, a.bells, a.states INTO v_known, bells, states
        FROM muskox.add_tied(
            v_now, p_level, p_within, v_jobs.queues, v_jobs.lanes, v_jobs.ids, v_jobs.ranks, v_jobs.delays,
            v_jobs.attempts, v_jobs.stalls, v_jobs.options, v_jobs.data, v_jobs.keys, p_channel) AS a;
        states := ARRAY(
            SELECT states[array_position(v_jobs.places, i.place)]
            FROM json_to_recordset(p_items) AS i (place integer) ORDER BY i.place
        );
    ELSIF v_jobs.ids IS NOT NULL THEN
        SELECT array_agg(r.queue ORDER BY r.first) AS queues, array_agg(r.lane ORDER BY r.first) AS lanes,
               array_agg(r.state ORDER BY r.first) AS states, array_agg(r.size ORDER BY r.first) AS sizes,
               array_agg(r.body ORDER BY r.first) AS bodies
        INTO v_runs
        FROM (
            SELECT n.queue, n.lane, n.state, min(n.place) AS first, count(*)::integer AS size,
                   '[' || string_agg('[' || to_json(n.id)::text || ',' || l.label || ']', ',' ORDER BY n.place) || ']' AS body
            FROM (
                SELECT u.queue, u.lane, u.id, (u.delay > 0)::integer::smallint AS state, u.place,
                       u.place - row_number() OVER (PARTITION BY u.queue, u.lane, u.delay > 0 ORDER BY u.place) AS run
                FROM unnest(v_jobs.queues, v_jobs.lanes, v_jobs.ids, v_jobs.delays) WITH ORDINALITY
                     AS u (queue, lane, id, delay, place)
            ) AS n
            JOIN muskox.lanes AS l ON l.id = n.lane
            GROUP BY n.queue, n.lane, n.state, n.run
        ) AS r;
        SELECT a.known, a.bells INTO v_known, bells
        FROM muskox.add(
            v_now, p_level, p_within, v_jobs.queues, v_jobs.lanes, v_jobs.ids, v_jobs.ranks, v_jobs.delays,
            v_jobs.attempts, v_jobs.stalls, v_jobs.options, v_jobs.data, v_runs.queues, v_runs.lanes, v_runs.states,
            v_runs.sizes, v_runs.bodies, p_channel) AS a;
    ELSIF NOT p_within THEN
        bells := muskox.awaited('{}');
    END IF;
    INSERT INTO muskox.expiries (at, queue, job)
    SELECT v_now + i.expires + 1, i.queue, COALESCE(ids[array_position(places, i.place)], i.id)
    FROM json_to_recordset(p_items) AS i (place integer, queue integer, id text, expires bigint)
    WHERE i.expires IS NOT NULL
    ON CONFLICT DO NOTHING;
    FOR v_one IN SELECT v_jobs.places[k] AS place FROM unnest(v_known) AS k LOOP
        places := places || v_one.place;
        ids := ids || NULL::text;
    END LOOP;
    RETURN NEXT;
END
$$;

-- `add` for the jobs of schedules of which some have a key, or a dedup key or a time in which to begin as their options
-- say. Of several with one dedup key the first is added, and nothing is refused. Returns the places (from 1) of the jobs
-- that were not stored, and bells.
CREATE FUNCTION muskox.fire_once(
    p_now bigint, p_level text, p_queues integer[], p_lanes integer[], p_ids text[], p_ranks integer[], p_delays bigint[],
    p_attempts integer[], p_stalls integer[], p_options text[], p_data text[], p_keys text[]
) RETURNS TABLE (known integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_items json;
    v_twins integer[];
BEGIN
    SELECT json_agg(n.item) FILTER (WHERE n.nth = 1 OR n.key IS NULL),
           array_agg(n.place::integer) FILTER (WHERE n.nth > 1 AND n.key IS NOT NULL)
    INTO v_items, v_twins
    FROM (
        SELECT j.place, r.key, row_number() OVER (PARTITION BY j.queue, r.key ORDER BY j.place) AS nth,
               json_build_object(
                   'place', j.place, 'queue', j.queue, 'lane', j.lane, 'id', j.id, 'rank', j.rank, 'delay', j.delay,
                   'attempts', j.attempts, 'stalls', j.stalls, 'options', j.options, 'data', j.data, 'key', j.line,
                   'dedup', r.key,
                   'kind', CASE WHEN r."window" IS NOT NULL THEN 2 WHEN r.until = 'started' THEN 0 ELSE 1 END,
                   'window', COALESCE(r."window" * 1000000, 0)::bigint,
                   'expires', CASE WHEN position('"expires_in":' IN j.options) > 0
                                   THEN floor((j.options::json ->> 'expires_in')::double precision * 1000000)::bigint END,
                   'next_to', CASE WHEN r."then" IN ('replace', 'keep-last') THEN r."then" ELSE 'existing' END
               ) AS item
        FROM unnest(p_queues, p_lanes, p_ids, p_ranks, p_delays, p_attempts, p_stalls, p_options, p_data, p_keys)
             WITH ORDINALITY AS j (queue, lane, id, rank, delay, attempts, stalls, options, data, line, place)
        LEFT JOIN LATERAL json_to_record(j.options::json -> 'dedup')
             AS r (key text, until text, "window" double precision, "then" text) ON position('"dedup":' IN j.options) > 0
    ) AS n;
    SELECT a.places || COALESCE(v_twins, '{}'), a.bells INTO known, bells
    FROM muskox.add_once(p_now, p_level, false, v_items, NULL) AS a;
    RETURN NEXT;
END
$$;

-- Add what was remembered until one of these jobs has ended; those that have not are passed over. Their keys are locked
-- whether or not something is remembered, since somebody may be about to write it. Gives the queues in which jobs wait.
CREATE FUNCTION muskox.add_later(p_now bigint, p_queues integer[], p_ids text[]) RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_one record;
    v_queues integer[] := '{}';
BEGIN
    FOR v_one IN
        SELECT d.queue, d.key, d.job, d.later
        FROM unnest(p_queues, p_ids) AS e (queue, id) JOIN muskox.dedups AS d ON d.queue = e.queue AND d.job = e.id
        ORDER BY d.queue, d.key
        FOR UPDATE OF d
    LOOP
        CONTINUE WHEN v_one.later IS NULL OR EXISTS (
            SELECT FROM muskox.jobs AS j WHERE j.queue = v_one.queue AND j.id = v_one.job AND j.state <= 3);
        DELETE FROM muskox.dedups AS d WHERE d.queue = v_one.queue AND d.key = v_one.key;
        PERFORM muskox.overfill(true);
        PERFORM muskox.add_once(p_now, '', false, json_build_array(v_one.later::json), NULL);
        PERFORM muskox.overfill(false);
        v_queues := v_queues || v_one.queue;
    END LOOP;
    RETURN v_queues;
END
$$;

-- What follows when jobs have been cancelled or removed by hand: keys that they had for a window are free, and what was
-- remembered until their end is added. Gives the queues in which jobs wait.
CREATE FUNCTION muskox.dedup_over(p_now bigint, p_queues integer[], p_ids text[]) RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM muskox.dedups) THEN
        RETURN '{}';
    END IF;
    DELETE FROM muskox.dedups AS d
    USING unnest(p_queues, p_ids) AS e (queue, id)
    WHERE d.queue = e.queue AND d.job = e.id AND d.kind = 2;
    RETURN muskox.add_later(p_now, p_queues, p_ids);
END
$$;

-- Let jobs that were taken over from another store have their keys, where these are free, and have them looked at when
-- their time is over. p_items as for `adopt`, with dedup, kind, window and expires; p_places are those that were stored.
CREATE FUNCTION muskox.dedup_adopt(p_now bigint, p_items json, p_places integer[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_one record;
BEGIN
    INSERT INTO muskox.expiries (at, queue, job)
    SELECT i.added + i.expires + 1, i.queue, i.id
    FROM json_to_recordset(p_items) AS i (
        place integer, queue integer, id text, state smallint, added bigint, expires bigint)
    WHERE i.expires IS NOT NULL AND i.state <= 3 AND i.place = ANY (p_places)
    ON CONFLICT DO NOTHING;
    FOR v_one IN
        SELECT i.*
        FROM json_to_recordset(p_items) AS i (
            place integer, queue integer, id text, state smallint, added bigint, dedup text, kind smallint, "window" bigint)
        WHERE i.dedup IS NOT NULL AND i.place = ANY (p_places) AND (i.kind = 2 OR i.state <= 3)
        ORDER BY i.queue, i.dedup COLLATE "C"
    LOOP
        IF NOT EXISTS (SELECT FROM muskox.dedup_holder(p_now, v_one.queue, v_one.dedup) AS h WHERE h.counts) THEN
            PERFORM muskox.dedup_hold(p_now, v_one.queue, v_one.dedup, v_one.id, v_one.kind, v_one."window", v_one.added);
        END IF;
    END LOOP;
END
$$;

-- Forget keys that count no more and whose jobs are gone.
CREATE FUNCTION muskox.dedup_sweep(p_now bigint, p_limit integer) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_tids tid[] := ARRAY(
        SELECT d.ctid FROM muskox.dedups AS d WHERE d.look <= p_now ORDER BY d.look LIMIT p_limit FOR UPDATE SKIP LOCKED);
BEGIN
    DELETE FROM muskox.dedups AS d
    USING unnest(v_tids) AS t (tid)
    WHERE d.ctid = t.tid AND COALESCE(d.over <= p_now, true)
      AND NOT EXISTS (SELECT FROM muskox.jobs AS j WHERE j.queue = d.queue AND j.id = d.job);
    UPDATE muskox.dedups AS d SET look = p_now + 3600000000
    FROM unnest(v_tids) AS t (tid)
    WHERE d.ctid = t.tid;
END
$$;
