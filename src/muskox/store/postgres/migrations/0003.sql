-- Adding and claiming.

-- Store jobs, all or none; those whose (queue, id) is known are left as they are. The arrays from p_queues to p_data
-- have an entry per job, those from p_told_queues an entry per run of jobs that are told of together when all are new.
-- Returns the moment, the places (from 1) of the jobs that were known, and the bells to ring.
CREATE FUNCTION muskox.add(
    p_now bigint, p_level text, p_within boolean,
    p_queues integer[], p_lanes integer[], p_ids text[], p_ranks integer[], p_delays bigint[], p_attempts integer[],
    p_stalls integer[], p_options text[], p_data text[],
    p_told_queues integer[], p_told_lanes integer[], p_told_states smallint[], p_told_sizes integer[], p_bodies text[],
    p_channel text
) RETURNS TABLE (at bigint, known integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_queues integer[];
    v_ids text[];
    v_new integer[];
BEGIN
    IF NOT p_within THEN
        PERFORM muskox.relax(p_level);
    END IF;
    PERFORM muskox.lock_new(p_queues, NULL);
    v_now := muskox.tick(p_now, NOT p_within);
    WITH stored AS (
        INSERT INTO muskox.jobs
            (queue, lane, id, rank, state, arrival, added, due, attempts, max_stalls, options, data)
        SELECT n.queue, n.lane, n.id, n.rank, CASE WHEN n.delay > 0 THEN 1 ELSE 0 END, v_now + n.delay, v_now,
               CASE WHEN n.delay > 0 THEN v_now + n.delay END, n.attempts, n.stalls, n.options, n.data
        FROM unnest(p_queues, p_lanes, p_ids, p_ranks, p_delays, p_attempts, p_stalls, p_options, p_data)
             AS n (queue, lane, id, rank, delay, attempts, stalls, options, data)
        ON CONFLICT (queue, id) DO NOTHING
        RETURNING queue, id
    )
    SELECT array_agg(queue), array_agg(id) INTO v_queues, v_ids FROM stored;

    IF cardinality(v_ids) = cardinality(p_ids) THEN
        v_new := NULL;
        WITH told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, t.queue, t.size, CASE t.state WHEN 0 THEN 'waiting' ELSE 'delayed' END, t.body
            FROM unnest(p_told_queues, p_told_states, p_told_sizes, p_bodies) AS t (queue, state, size, body)
            RETURNING id, size
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
        INSERT INTO muskox.pending (size, lane, moved, target)
        SELECT 0, t.lane, t.size, t.state FROM unnest(p_told_lanes, p_told_states, p_told_sizes) AS t (lane, state, size);
    ELSE
        -- Of twins the first is the one that was stored.
        SELECT COALESCE(array_agg(one.place ORDER BY one.place), '{}') INTO v_new
        FROM (
            SELECT min(n.place)::integer AS place
            FROM unnest(p_queues, p_ids) WITH ORDINALITY AS n (queue, id, place)
            JOIN unnest(v_queues, v_ids) AS s (queue, id) ON s.queue = n.queue AND s.id = n.id
            GROUP BY n.queue, n.id
        ) AS one;
        WITH fact AS (
            -- The runs follow each other as the jobs do.
            SELECT e.fact, row_number() OVER (ORDER BY t.number, e.number) AS place
            FROM unnest(p_bodies) WITH ORDINALITY AS t (body, number)
            CROSS JOIN LATERAL json_array_elements(t.body::json) WITH ORDINALITY AS e (fact, number)
        ), fresh AS (
            SELECT p_queues[f.place] AS queue, p_lanes[f.place] AS lane, f.fact,
                   CASE WHEN p_delays[f.place] > 0 THEN 1 ELSE 0 END AS state, f.place
            FROM fact AS f
            WHERE f.place = ANY (v_new)
        ), told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, f.queue, count(*), CASE f.state WHEN 0 THEN 'waiting' ELSE 'delayed' END,
                   '[' || string_agg(f.fact::text, ',' ORDER BY f.place) || ']'
            FROM fresh AS f
            GROUP BY f.queue, f.state
            RETURNING id, size
        ), counted AS (
            INSERT INTO muskox.pending (size, lane, moved, target)
            SELECT 0, f.lane, count(*), f.state FROM fresh AS f GROUP BY f.lane, f.state
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
    END IF;

    PERFORM muskox.keep_bounds(v_now, p_queues, p_ids);
    at := v_now;
    IF v_new IS NOT NULL THEN
        known := ARRAY(SELECT place FROM generate_series(1, cardinality(p_ids)) AS place WHERE place <> ALL (v_new));
    END IF;
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

-- Store jobs that are alike, as most are that are added together, and all new: what `add` does in fewer steps. Returns
-- the moment and the bells to ring, as JSON; NULL when one of them is known, or their queue has a bound, and nothing was done. Fails when one of
-- several is twice among them, or is added by somebody else in this very moment.
CREATE FUNCTION muskox.add_alike(
    p_now bigint, p_level text, p_queue integer, p_lane integer, p_rank integer, p_delay bigint, p_attempts integer,
    p_stalls integer, p_options text, p_ids text[], p_data text[], p_body text
) RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now bigint := COALESCE(p_now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    v_size integer := cardinality(p_ids);
    v_state smallint := (p_delay > 0)::integer;
    v_due bigint;
    v_known bigint;
    v_awaited boolean;
    v_bounded boolean;
    v_event bigint;
BEGIN
    IF p_level <> '' THEN
        PERFORM set_config('synchronous_commit', p_level, true);
    END IF;
    SELECT last_value, EXISTS (SELECT FROM muskox.waits), EXISTS (SELECT FROM muskox.capacities AS b WHERE b.queue = p_queue)
    INTO v_known, v_awaited, v_bounded
    FROM muskox.clock;
    IF v_bounded THEN
        RETURN NULL;
    END IF;
    IF v_now NOT BETWEEN v_known AND v_known + 1000000 THEN
        v_now := muskox.tick(p_now, true);
    END IF;
    IF p_delay > 0 THEN
        v_due := v_now + p_delay;
    END IF;
    IF v_size = 1 THEN
        INSERT INTO muskox.jobs (queue, lane, id, rank, state, arrival, added, due, attempts, max_stalls, options, data)
        VALUES (p_queue, p_lane, p_ids[1], p_rank, v_state, v_now + p_delay, v_now, v_due, p_attempts, p_stalls,
                p_options, p_data[1])
        ON CONFLICT (queue, id) DO NOTHING;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    ELSE
        -- Ids that are made one after the other are greater than all that are there; others are looked for.
        IF (SELECT min(n.id COLLATE "C") FROM unnest(p_ids) AS n (id))
               <= (SELECT max(j.id) FROM muskox.jobs AS j WHERE j.queue = p_queue)
           AND EXISTS (SELECT FROM unnest(p_ids) AS n (id) JOIN muskox.jobs AS j ON j.queue = p_queue AND j.id = n.id)
        THEN
            RETURN NULL;
        END IF;
        -- A plain insert takes two thirds of the time of one that looks out for conflicts row by row.
        INSERT INTO muskox.jobs (queue, lane, id, rank, state, arrival, added, due, attempts, max_stalls, options, data)
        SELECT p_queue, p_lane, n.id, p_rank, v_state, v_now + p_delay, v_now, v_due, p_attempts, p_stalls, p_options,
               n.data
        FROM unnest(p_ids, p_data) AS n (id, data);
    END IF;
    INSERT INTO muskox.events (at, queue, size, kind, body)
    VALUES (v_now, p_queue, v_size, CASE v_state WHEN 0 THEN 'waiting' ELSE 'delayed' END, p_body)
    RETURNING id INTO v_event;
    INSERT INTO muskox.pending (event, size, lane, moved, target) VALUES (v_event, v_size, p_lane, v_size, v_state);
    IF v_awaited THEN
        RETURN json_build_array(v_now, muskox.awaited(ARRAY[p_queue]));
    END IF;
    RETURN '[' || v_now || ',null]';
END
$$;

-- The rows with which a claim ends: in so many microseconds more may be claimed from these queues.
CREATE FUNCTION muskox.told_later(p_now bigint, p_queues integer[], p_moments bigint[])
RETURNS TABLE (
    at bigint, bell boolean, lane integer, place text, token bigint, rank integer, attempt integer, attempts integer,
    stalls integer, releases integer, added bigint, started bigint, id text, options text, data text, progress text,
    tied boolean, key text, arrival bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT greatest(0, w.moment - p_now), false, NULL::integer, NULL::text, NULL::bigint, NULL::integer, NULL::integer,
           NULL::integer, NULL::integer, NULL::integer, NULL::bigint, NULL::bigint, q.name, NULL::text, NULL::text,
           NULL::text, NULL::boolean, NULL::text, NULL::bigint
    FROM unnest(p_queues, p_moments) AS w (queue, moment) JOIN muskox.queues AS q ON q.id = w.queue;
END
$$;

-- Move waiting jobs to active. p_queues, p_names (NULL: any) and p_stalls are what is wanted.
-- A ticket that was used before gives what it gave, as far as that is still held. `bell`: somebody waits for events.
-- Last come rows without a lane: so many microseconds (`at`) from now, more may be claimed from the queue named `id`.
CREATE FUNCTION muskox.claim(
    p_now bigint, p_level text, p_queues text[], p_names text[], p_stalls integer[], p_limit integer,
    p_worker text, p_lease bigint, p_ticket text
) RETURNS TABLE (
    at bigint, bell boolean, lane integer, place text, token bigint, rank integer, attempt integer, attempts integer,
    stalls integer, releases integer, added bigint, started bigint, id text, options text, data text, progress text,
    tied boolean, key text, arrival bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_bell boolean;
    v_turn bigint;
    v_aged integer;
    v_lanes integer[];
    v_lane_queues integer[];
    v_lane_stalls integer[];
    v_old tid[];
    v_picked tid[];
    v_claimed integer[];
    v_held boolean;
    v_pick record;
    v_counted integer[];
    v_queue integer;
    v_last record;
BEGIN
    PERFORM muskox.relax(p_level);
    v_now := muskox.tick(p_now, true);
    v_bell := muskox.awaited('{}') IS NOT NULL;
    IF p_ticket <> '' THEN
        INSERT INTO muskox.tickets (worker, ticket, until) VALUES (p_worker, p_ticket, v_now + p_lease)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN QUERY
            SELECT v_now, false, j.lane, j.ctid::text, j.token, j.rank, j.attempt, j.attempts, j.stalls, j.releases,
                   j.added, j.started, j.id, j.options, j.data, j.progress, j.tied, j.key, NULL::bigint
            FROM muskox.jobs AS j
            WHERE j.state = 3 AND j.worker = p_worker AND j.ticket = p_ticket
            ORDER BY j.token;
            RETURN;
        END IF;
    END IF;

    SELECT array_agg(w.lane), array_agg(w.queue), array_agg(w.stalls), bool_or(w.held)
    INTO v_lanes, v_lane_queues, v_lane_stalls, v_held
    FROM (
        SELECT l.id AS lane, l.queue, (array_agg(w.stalls ORDER BY w.name))[1] AS stalls,
               bool_or(q.limited OR q.keyed) AS held
        FROM unnest(p_queues, p_names, p_stalls) AS w (queue, name, stalls)
        JOIN muskox.queues AS q ON q.name = w.queue AND NOT q.paused
        JOIN muskox.lanes AS l ON l.queue = q.id AND (w.name IS NULL OR l.name = w.name)
        GROUP BY l.id, l.queue
    ) AS w;
    IF cardinality(v_lanes) > 1 AND NOT v_held THEN
        -- Mostly but one of them has jobs, which are claimed at half the cost of taking turns.
        SELECT array_agg(w.lane ORDER BY w.place), array_agg(w.queue ORDER BY w.place), array_agg(w.stalls ORDER BY w.place)
        INTO v_lanes, v_lane_queues, v_lane_stalls
        FROM unnest(v_lanes, v_lane_queues, v_lane_stalls) WITH ORDINALITY AS w (lane, queue, stalls, place)
        WHERE EXISTS (SELECT FROM muskox.jobs AS j WHERE j.lane = w.lane AND j.state = 0);
    END IF;
    IF v_lanes IS NULL THEN
        RETURN;
    END IF;

    -- One claim in twenty goes to the job that has waited longest, once it has waited ten seconds.
    v_turn := nextval('muskox.turns');
    v_aged := (v_turn + 1) * p_limit / 20 - v_turn * p_limit / 20;
    IF v_aged > 0 THEN
        SELECT array_agg(o.tid ORDER BY o.arrival, o.seq) INTO v_old
        FROM (
            SELECT o.tid, o.arrival, o.seq, count(*) OVER () AS found
            FROM unnest(v_lanes) AS l (lane) CROSS JOIN LATERAL muskox.oldest(l.lane) AS o
            ORDER BY o.arrival, o.seq
            LIMIT v_aged
        ) AS o
        WHERE o.arrival <= v_now - 10000000 AND (o.found > 1 OR cardinality(v_lanes) > 1);
    END IF;
    IF v_held THEN
        SELECT * INTO v_pick FROM muskox.pick_held(p_now, v_lanes, v_lane_queues, p_limit, v_turn, COALESCE(v_old, '{}'));
        v_now := v_pick.now;
        v_picked := v_pick.picked;
        v_counted := v_pick.counted;
    -- None with a key: the first of a queue may have been added since.
    ELSIF cardinality(v_lanes) = 1 AND v_old IS NULL THEN
        SELECT array_agg(tid ORDER BY rank, arrival, seq) INTO v_picked
        FROM (
            SELECT j.ctid AS tid, j.rank, j.arrival, j.seq
            FROM muskox.jobs AS j
            WHERE j.lane = v_lanes[1] AND j.state = 0 AND j.key IS NULL
            ORDER BY j.rank, j.arrival, j.seq
            LIMIT p_limit
            FOR UPDATE SKIP LOCKED
        ) AS first;
    ELSE
        v_picked := muskox.pick(v_lanes, v_lane_queues, p_limit, v_turn, COALESCE(v_old, '{}'), NULL, NULL, NULL);
    END IF;
    IF v_picked IS NULL THEN
        IF v_held THEN
            RETURN QUERY SELECT * FROM muskox.told_later(v_now, v_pick.queues, v_pick.moments);
        END IF;
        RETURN;
    END IF;

    SELECT j.queue, j.lane, j.rank, j.arrival, j.seq INTO v_last
    FROM muskox.jobs AS j WHERE j.ctid = v_picked[cardinality(v_picked)];
    PERFORM muskox.lift_tokens(v_now);
    IF v_lane_queues[1] = ALL (v_lane_queues) THEN
        v_claimed := v_lane_queues[1:1];
    ELSE
        v_claimed := ARRAY(
            SELECT DISTINCT j.queue FROM unnest(v_picked) AS p (tid) JOIN muskox.jobs AS j ON j.ctid = p.tid);
    END IF;
    RETURN QUERY
    WITH numbered AS MATERIALIZED (
        SELECT p.tid, nextval('muskox.tokens') AS token FROM unnest(v_picked) AS p (tid)
    ), moved AS (
        UPDATE muskox.jobs AS j
        SET state = 3, attempt = j.attempt + 1, token = n.token, lease_until = v_now + p_lease, worker = p_worker,
            ticket = p_ticket, started = v_now, due = NULL, counted = CASE WHEN j.queue = ANY (v_counted) THEN true END,
            tied = CASE WHEN j.queue = ANY (v_counted) THEN true ELSE j.tied END,
            max_stalls = COALESCE(j.max_stalls, v_lane_stalls[array_position(v_lanes, j.lane)])
        FROM numbered AS n
        WHERE j.ctid = n.tid
        RETURNING j.lane, j.queue, j.ctid AS tid, j.token, j.rank, j.attempt, j.attempts, j.stalls, j.releases, j.added,
                  j.started, j.id, j.options, j.data, j.progress, j.tied, j.key, j.arrival
    ), fact AS (
        SELECT m.queue, m.lane, count(*) AS size,
               '[' || string_agg('[' || to_json(m.id)::text || ',' || l.label || ',' || m.attempt || ']', ',' ORDER BY m.token) || ']' AS body
        FROM moved AS m JOIN muskox.lanes AS l ON l.id = m.lane
        GROUP BY m.queue, m.lane
    ), told AS (
        INSERT INTO muskox.events (at, queue, size, kind, body)
        SELECT v_now, f.queue, f.size, 'active', f.body FROM fact AS f
        RETURNING id, size
    ), numbering AS (
        INSERT INTO muskox.pending (event, size, moved) SELECT t.id, t.size, 0 FROM told AS t
    ), counted AS (
        INSERT INTO muskox.pending (size, lane, moved, source, target) SELECT 0, f.lane, f.size, 0, 3 FROM fact AS f
    )
    SELECT v_now, v_bell, m.lane, m.tid::text, m.token, m.rank, m.attempt, m.attempts, m.stalls, m.releases, m.added,
           m.started, m.id, m.options, m.data, m.progress, m.tied, m.key, m.arrival
    FROM moved AS m
    ORDER BY m.token;

    FOREACH v_queue IN ARRAY v_claimed LOOP
        -- Mostly there are more behind the last one; from the front of the index all that were claimed would be read again.
        IF v_queue = v_last.queue AND EXISTS (
            SELECT FROM muskox.jobs AS j
            WHERE j.lane = v_last.lane AND j.state = 0
              AND (j.rank, j.arrival, j.seq) > (v_last.rank, v_last.arrival, v_last.seq)
        ) THEN
            CONTINUE;
        END IF;
        IF NOT EXISTS (
            SELECT FROM muskox.lanes AS l
            WHERE l.queue = v_queue
              AND EXISTS (SELECT FROM muskox.jobs AS j WHERE j.lane = l.id AND j.state = 0)
        ) THEN
            PERFORM muskox.tell(v_queue, 'drained', v_now, 1, '[[]]');
        END IF;
    END LOOP;
    IF v_held THEN
        RETURN QUERY SELECT * FROM muskox.told_later(v_now, v_pick.queues, v_pick.moments);
    END IF;
END
$$;
