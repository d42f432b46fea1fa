-- readers: 0007
-- Schedules and their ledgers. Releases that know nothing of them work on beside them.

-- `version` is a fence and so grows with every change, also over deleting and adding again. `told` is the number of
-- the latest entry in the ledger; `record` is what the schedule says, as JSON, and `queue` and `overlap` are a part of it.
CREATE TABLE muskox.schedules (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version bigint NOT NULL,
    next bigint,
    last bigint,
    told bigint NOT NULL DEFAULT 0,
    added bigint NOT NULL,
    changed bigint NOT NULL,
    generation bigint NOT NULL,
    paused boolean NOT NULL,
    name text COLLATE "C" NOT NULL UNIQUE,
    last_job text COLLATE "C",
    queue text COLLATE "C" NOT NULL,
    overlap text COLLATE "C" NOT NULL,
    record text COLLATE "C" NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 500);

CREATE INDEX schedules_next ON muskox.schedules (next, name) WHERE NOT paused AND next IS NOT NULL;

CREATE TABLE muskox.ledger (
    schedule integer NOT NULL,
    number bigint NOT NULL,
    moment bigint NOT NULL,
    at bigint NOT NULL,
    missed bigint NOT NULL,
    told text COLLATE "C" NOT NULL,
    job text COLLATE "C",
    reason text COLLATE "C" NOT NULL,
    PRIMARY KEY (schedule, number)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 1000);

-- Read schedules: those of p_names, or (NULL) those that are due, or all. The first row is none: its `next` is the
-- nearest moment after now, and `added` is now.
CREATE FUNCTION muskox.read_schedules(p_now bigint, p_names text[], p_due boolean, p_limit integer)
RETURNS TABLE (
    name text, version bigint, generation bigint, paused boolean, next bigint, last bigint, last_job text, added bigint,
    changed bigint, record text
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := muskox.moment(p_now);
BEGIN
    RETURN QUERY
    SELECT NULL::text, NULL::bigint, NULL::bigint, NULL::boolean, (
        SELECT s.next FROM muskox.schedules AS s
        WHERE NOT s.paused AND s.next IS NOT NULL AND s.next > v_now
        ORDER BY s.next, s.name LIMIT 1
    ), NULL::bigint, NULL::text, v_now, NULL::bigint, NULL::text;
    IF p_names IS NOT NULL THEN
        RETURN QUERY
        SELECT s.name, s.version, s.generation, s.paused, s.next, s.last, s.last_job, s.added, s.changed, s.record
        FROM muskox.schedules AS s
        WHERE s.name = ANY (p_names)
        ORDER BY s.name LIMIT p_limit;
    ELSIF p_due THEN
        RETURN QUERY
        SELECT s.name, s.version, s.generation, s.paused, s.next, s.last, s.last_job, s.added, s.changed, s.record
        FROM muskox.schedules AS s
        WHERE NOT s.paused AND s.next IS NOT NULL AND s.next <= v_now
        ORDER BY s.next, s.name LIMIT p_limit;
    ELSE
        RETURN QUERY
        SELECT s.name, s.version, s.generation, s.paused, s.next, s.last, s.last_job, s.added, s.changed, s.record
        FROM muskox.schedules AS s
        ORDER BY s.name LIMIT p_limit;
    END IF;
END
$$;

-- Put, replace or (p_gone) delete schedules, each where its version is the one that was seen; 0: that there is none.
-- Returns per change whether it was made, now or before. Rows are locked in the order of their names.
CREATE FUNCTION muskox.put_schedules(
    p_now bigint, p_level text, p_bell text, p_names text[], p_versions bigint[], p_gone boolean[],
    p_generations bigint[], p_paused boolean[], p_nexts bigint[], p_lasts bigint[], p_last_jobs text[], p_queues text[],
    p_overlaps text[], p_records text[]
) RETURNS TABLE (made boolean[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_changed boolean := false;
    v_one record;
    v_there muskox.schedules;
BEGIN
    PERFORM muskox.relax(p_level);
    PERFORM muskox.lift_tokens(v_now);
    made := array_fill(false, ARRAY[cardinality(p_names)]);
    FOR v_one IN
        SELECT c.*
        FROM unnest(p_names, p_versions, p_gone, p_generations, p_paused, p_nexts, p_lasts, p_last_jobs, p_queues,
                    p_overlaps, p_records)
             WITH ORDINALITY AS c (name, version, gone, generation, paused, next, last, last_job, queue, overlap, record,
                                   place)
        ORDER BY c.name COLLATE "C", c.place
    LOOP
        SELECT * INTO v_there FROM muskox.schedules AS s WHERE s.name = v_one.name FOR UPDATE;
        IF NOT FOUND AND v_one.version = 0 AND NOT v_one.gone THEN
            INSERT INTO muskox.schedules
                (version, next, last, added, changed, generation, paused, name, last_job, queue, overlap, record)
            VALUES (nextval('muskox.tokens'), v_one.next, v_one.last, v_now, v_now, v_one.generation, v_one.paused,
                    v_one.name, v_one.last_job, v_one.queue, v_one.overlap, v_one.record)
            ON CONFLICT (name) DO NOTHING;
            IF FOUND THEN
                made[v_one.place] := true;
                v_changed := true;
                CONTINUE;
            END IF;
            -- Somebody has put one in this moment.
            SELECT * INTO v_there FROM muskox.schedules AS s WHERE s.name = v_one.name FOR UPDATE;
        END IF;
        IF NOT FOUND THEN
            made[v_one.place] := v_one.gone;
        ELSIF v_there.version <> v_one.version THEN
            made[v_one.place] := NOT v_one.gone
                AND (v_there.generation, v_there.paused, v_there.record) = (v_one.generation, v_one.paused, v_one.record)
                AND (v_there.next, v_there.last, v_there.last_job) IS NOT DISTINCT FROM (v_one.next, v_one.last, v_one.last_job);
        ELSIF v_one.gone THEN
            DELETE FROM muskox.ledger AS g WHERE g.schedule = v_there.id;
            DELETE FROM muskox.schedules AS s WHERE s.id = v_there.id;
            made[v_one.place] := true;
            v_changed := true;
        ELSE
            UPDATE muskox.schedules AS s
            SET version = nextval('muskox.tokens'), next = v_one.next, last = v_one.last, changed = v_now,
                generation = v_one.generation, paused = v_one.paused, last_job = v_one.last_job, queue = v_one.queue,
                overlap = v_one.overlap, record = v_one.record
            WHERE s.id = v_there.id;
            made[v_one.place] := true;
            v_changed := true;
        END IF;
    END LOOP;
    IF v_changed THEN
        bells := ARRAY(
            SELECT p_bell WHERE EXISTS (
                SELECT FROM muskox.waits AS w WHERE w.queue = p_bell AND w.until > clock_timestamp()));
    END IF;
    RETURN NEXT;
END
$$;

-- Use up due moments: each firing moves its schedule on, adds its jobs and tells the ledger, or does nothing where the
-- version is another. p_owners and p_entry_owners are the places (from 1) of the firings that jobs and entries are of,
-- p_last_places those of the last job of each firing among all jobs (0: it has none), p_entry_places those of the jobs
-- that entries tell of. A ledger keeps p_most entries; what goes with a job that is skipped gets a reason by overlap.
-- Returns the places of the firings that held, the firing of each job that `add` was given, and which it knew.
CREATE FUNCTION muskox.fire(
    p_now bigint, p_level text, p_names text[], p_versions bigint[], p_nexts bigint[], p_lasts bigint[],
    p_last_places integer[], p_entries integer[],
    p_owners integer[], p_queues integer[], p_lanes integer[], p_ids text[], p_ranks integer[], p_delays bigint[],
    p_attempts integer[], p_stalls integer[], p_options text[], p_data text[], p_keys text[],
    p_entry_owners integer[], p_entry_numbers integer[], p_entry_places integer[], p_moments bigint[], p_told text[],
    p_entry_jobs text[], p_reasons text[], p_missed bigint[], p_most integer, p_skip_reason text, p_queue_reason text
) RETURNS TABLE (won integer[], owners integer[], known integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    -- Per firing, 0 where it does not hold: the row of its schedule, the latest entry before it, what its overlap is
    -- (1 skip, 2 queue), and the place of the last job that it adds.
    v_rows integer[] := array_fill(0, ARRAY[cardinality(p_names)]);
    v_tolds bigint[] := array_fill(0::bigint, ARRAY[cardinality(p_names)]);
    v_overlaps integer[] := array_fill(0, ARRAY[cardinality(p_names)]);
    v_lasts integer[] := p_last_places;
    v_skipped integer[] := '{}';
    v_stopping smallint[];
    v_stopped boolean;
    v_state smallint;
    v_is_known boolean;
    v_before integer := 0;
    v_one record;
    v_last record;
    v_jobs record;
    v_runs record;
BEGIN
    -- Moments of schedules are never refused.
    PERFORM muskox.overfill(true);
    PERFORM muskox.relax(p_level);
    PERFORM muskox.lift_tokens(v_now);
    FOR v_one IN
        SELECT s.id, s.told, s.overlap, f.place
        FROM unnest(p_names, p_versions) WITH ORDINALITY AS f (name, version, place)
        JOIN muskox.schedules AS s ON s.name = f.name AND s.version = f.version
        ORDER BY s.name, f.place
        FOR UPDATE OF s
    LOOP
        -- Of two firings of one version in a call the first holds.
        IF v_one.id <> v_before THEN
            v_before := v_one.id;
            won := won || v_one.place::integer;
            v_rows[v_one.place] := v_one.id;
            v_tolds[v_one.place] := v_one.told;
            v_overlaps[v_one.place] := CASE v_one.overlap WHEN 'skip' THEN 1 WHEN 'queue' THEN 2 ELSE 0 END;
        END IF;
    END LOOP;
    IF won IS NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;

    v_before := 0;
    FOR v_one IN
        SELECT j.place, j.owner, j.queue, j.id
        FROM unnest(p_owners, p_queues, p_ids) WITH ORDINALITY AS j (owner, queue, id, place)
        WHERE v_overlaps[j.owner] > 0
        ORDER BY j.owner, j.place
    LOOP
        IF v_one.owner <> v_before THEN
            v_before := v_one.owner;
            v_lasts[v_before] := 0;
            v_stopping := CASE v_overlaps[v_before] WHEN 1 THEN '{0,1,2,3}' ELSE '{0,1,2}' END;
            SELECT q.id AS queue, s.last_job AS id INTO v_last
            FROM muskox.schedules AS s JOIN muskox.queues AS q ON q.name = s.queue
            WHERE s.id = v_rows[v_before];
            v_stopped := EXISTS (
                SELECT FROM muskox.jobs AS j
                WHERE j.queue = v_last.queue AND j.id = v_last.id AND j.state = ANY (v_stopping));
        END IF;
        SELECT j.state INTO v_state FROM muskox.jobs AS j WHERE j.queue = v_one.queue AND j.id = v_one.id;
        v_is_known := FOUND;
        IF v_stopped AND NOT v_is_known THEN
            v_skipped := v_skipped || v_one.place::integer;
        ELSE
            v_stopped := NOT v_is_known OR v_state = ANY (v_stopping);
            v_lasts[v_before] := v_one.place;
        END IF;
    END LOOP;

    UPDATE muskox.schedules AS s
    SET version = nextval('muskox.tokens'), next = f.next, last = COALESCE(f.last, s.last),
        last_job = COALESCE(p_ids[f.last_place], s.last_job), told = s.told + f.entries
    FROM unnest(v_rows, p_nexts, p_lasts, v_lasts, p_entries) AS f (id, next, last, last_place, entries)
    WHERE f.id > 0 AND s.id = f.id;
    INSERT INTO muskox.ledger (schedule, number, moment, at, missed, told, job, reason)
    SELECT v_rows[e.owner], v_tolds[e.owner] + e.number, e.moment, v_now, e.missed,
           CASE WHEN k.skipped THEN 'skipped' ELSE e.told END, CASE WHEN NOT k.skipped THEN e.job END,
           CASE WHEN NOT k.skipped THEN e.reason WHEN v_overlaps[e.owner] = 1 THEN p_skip_reason ELSE p_queue_reason END
    FROM unnest(p_entry_owners, p_entry_numbers, p_entry_places, p_moments, p_missed, p_told, p_entry_jobs, p_reasons)
         AS e (owner, number, place, moment, missed, told, job, reason)
    CROSS JOIN LATERAL (VALUES (e.place = ANY (v_skipped))) AS k (skipped)
    WHERE v_rows[e.owner] > 0;
    DELETE FROM muskox.ledger AS g
    USING unnest(v_rows, v_tolds, p_entries) AS f (id, told, entries)
    WHERE f.id > 0 AND f.told + f.entries > p_most AND g.schedule = f.id AND g.number <= f.told + f.entries - p_most;

    -- As `add` wants them: those that are told of together, one after the other.
    SELECT array_agg(j.owner) AS owners, array_agg(j.queue) AS queues, array_agg(j.lane) AS lanes, array_agg(j.id) AS ids,
           array_agg(j.rank) AS ranks, array_agg(j.delay) AS delays, array_agg(j.attempts) AS attempts,
           array_agg(j.stalls) AS stalls, array_agg(j.options) AS options, array_agg(j.data) AS data,
           array_agg(j.key) AS keys
    INTO v_jobs
    FROM (
        SELECT a.*, min(a.place) OVER (PARTITION BY a.lane, a.delay > 0) AS run
        FROM unnest(p_owners, p_queues, p_lanes, p_ids, p_ranks, p_delays, p_attempts, p_stalls, p_options, p_data,
                    p_keys)
             WITH ORDINALITY AS a (owner, queue, lane, id, rank, delay, attempts, stalls, options, data, key, place)
        WHERE v_rows[a.owner] > 0 AND a.place <> ALL (v_skipped)
        ORDER BY run, a.place
    ) AS j;
    owners := v_jobs.owners;
    IF EXISTS (SELECT FROM unnest(v_jobs.options, v_jobs.keys) AS o (said, key)
               WHERE o.key IS NOT NULL OR position('"dedup":' IN o.said) > 0 OR position('"expires_in":' IN o.said) > 0) THEN
        SELECT a.known, a.bells INTO known, bells
        FROM muskox.fire_once(
            p_now, p_level, v_jobs.queues, v_jobs.lanes, v_jobs.ids, v_jobs.ranks, v_jobs.delays, v_jobs.attempts,
            v_jobs.stalls, v_jobs.options, v_jobs.data, v_jobs.keys) AS a;
    ELSIF v_jobs.ids IS NOT NULL THEN
        SELECT array_agg(r.queue) AS queues, array_agg(r.lane) AS lanes, array_agg(r.state) AS states,
               array_agg(r.size) AS sizes, array_agg(r.body) AS bodies
        INTO v_runs
        FROM (
            SELECT j.queue, j.lane, (j.delay > 0)::integer::smallint AS state, count(*)::integer AS size,
                   '[' || string_agg('[' || to_json(j.id)::text || ',' || l.label || ']', ',' ORDER BY j.place) || ']' AS body
            FROM unnest(v_jobs.queues, v_jobs.lanes, v_jobs.ids, v_jobs.delays) WITH ORDINALITY
                 AS j (queue, lane, id, delay, place)
            JOIN muskox.lanes AS l ON l.id = j.lane
            GROUP BY j.queue, j.lane, j.delay > 0
            ORDER BY min(j.place)
        ) AS r;
        SELECT a.known, a.bells INTO known, bells
        FROM muskox.add(
            p_now, p_level, false, v_jobs.queues, v_jobs.lanes, v_jobs.ids, v_jobs.ranks, v_jobs.delays, v_jobs.attempts,
            v_jobs.stalls, v_jobs.options, v_jobs.data, v_runs.queues, v_runs.lanes, v_runs.states, v_runs.sizes,
            v_runs.bodies, NULL) AS a;
    END IF;
    RETURN NEXT;
END
$$;
