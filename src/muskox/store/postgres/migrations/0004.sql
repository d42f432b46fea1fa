-- What becomes of runs: complete, settle, renew, annotate.
--
-- A row is found by its place (ctid), which a lease remembers, and by queue and id where it has moved since. The token
-- is what counts: it is given to one claim of one job only.
--
-- `state + 0` keeps the planner from the index of active jobs: when it last counted there were none, so it would read
-- all of that index for each job, the dead entries of a busy worker included. A thousand settlements took six seconds.

-- Complete jobs; p_results is NULL when none has a result. The arrays from p_told_queues have an entry per lane, whose
-- jobs stand together in p_tids; a body is the JSON of the facts of a lane.
-- Returns the places (from 1) of the leases that were lost.
CREATE FUNCTION muskox.complete(
    p_now bigint, p_level text, p_tids tid[], p_tokens bigint[], p_results text[],
    p_told_queues integer[], p_told_lanes integer[], p_told_sizes integer[], p_bodies text[]
) RETURNS TABLE (lost integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_done integer;
    v_queues integer[] := '{}';
BEGIN
    PERFORM muskox.relax(p_level);
    v_now := muskox.tick(p_now, true);
    IF p_results IS NULL THEN
        UPDATE muskox.jobs AS j
        SET state = 4, ended = v_now, lease_until = NULL, failure = NULL
        FROM (SELECT u.tid, u.token FROM unnest(p_tids, p_tokens) AS u (tid, token) ORDER BY u.token) AS c
        WHERE j.ctid = c.tid AND j.token = c.token AND j.state + 0 = 3 AND j.tied IS NULL;
    ELSE
        UPDATE muskox.jobs AS j
        SET state = 4, ended = v_now, lease_until = NULL, failure = NULL, result = c.result
        FROM (
            SELECT u.tid, u.token, u.result FROM unnest(p_tids, p_tokens, p_results) AS u (tid, token, result) ORDER BY u.token
        ) AS c
        WHERE j.ctid = c.tid AND j.token = c.token AND j.state + 0 = 3 AND j.tied IS NULL;
    END IF;
    GET DIAGNOSTICS v_done = ROW_COUNT;
    IF v_done = cardinality(p_tids) THEN
        WITH told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, t.queue, t.size, 'completed', t.body
            FROM unnest(p_told_queues, p_told_sizes, p_bodies) AS t (queue, size, body)
            RETURNING id, size
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
        INSERT INTO muskox.pending (size, lane, moved, source, target)
        SELECT 0, t.lane, t.size, 3, 4 FROM unnest(p_told_lanes, p_told_sizes) AS t (lane, size);
    ELSE
        SELECT r.lost, r.queues INTO lost, v_queues
        FROM muskox.complete_rest(v_now, p_tokens, p_results, p_told_queues, p_told_lanes, p_bodies) AS r;
    END IF;
    bells := muskox.awaited(v_queues);
    RETURN NEXT;
END
$$;

-- The rest of `complete` when not every row was where its lease says, or was tied though its lease did not know: those
-- are looked up by their ids, and only what was done is told. A completion that was written before is not lost.
-- Gives the places of those that are, and the queues in which more may be claimed.
CREATE FUNCTION muskox.complete_rest(
    p_now bigint, p_tokens bigint[], p_results text[], p_told_queues integer[], p_told_lanes integer[], p_bodies text[]
) RETURNS TABLE (lost integer[], queues integer[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_queues integer[];
    v_lanes integer[];
    v_facts text[];
    v_ids text[];
    v_mine bigint[];
    v_moves muskox.move[];
BEGIN
    SELECT array_agg(f.queue ORDER BY f.place), array_agg(f.lane ORDER BY f.place), array_agg(f.fact::text ORDER BY f.place),
           array_agg(f.fact ->> 0 ORDER BY f.place)
    INTO v_queues, v_lanes, v_facts, v_ids
    FROM (
        SELECT t.queue, t.lane, e.fact, row_number() OVER (ORDER BY t.number, e.number) AS place
        FROM unnest(p_told_queues, p_told_lanes, p_bodies) WITH ORDINALITY AS t (queue, lane, body, number)
        CROSS JOIN LATERAL json_array_elements(t.body::json) WITH ORDINALITY AS e (fact, number)
    ) AS f;
    PERFORM muskox.lock_ties(array_agg(j.queue), array_agg(j.key), array_agg(j.flow), array_agg(j.seq))
    FROM unnest(v_queues, v_ids, p_tokens) AS c (queue, id, token)
    JOIN muskox.jobs AS j ON j.queue = c.queue AND j.id = c.id AND j.token = c.token
    WHERE j.tied
    HAVING count(*) > 0;
    PERFORM muskox.lock_runs(v_queues, v_ids, p_tokens);
    UPDATE muskox.jobs AS j
    SET state = 4, ended = p_now, lease_until = NULL, failure = NULL, result = c.result
    FROM unnest(v_queues, v_ids, p_tokens, COALESCE(p_results, array_fill(NULL::text, ARRAY[cardinality(p_tokens)])))
         AS c (queue, id, token, result)
    WHERE j.queue = c.queue AND j.id = c.id AND j.token = c.token AND j.state + 0 = 3;
    -- What this transaction has written; said twice in one call it is written once.
    SELECT array_agg(m.token), array_agg(m.move) FILTER (WHERE m.tied) INTO v_mine, v_moves
    FROM (
        SELECT DISTINCT ON (c.token) c.token, j.tied,
               ROW(j.seq, j.queue, j.lane, j.attempt, 3, 4, j.counted, j.id, j.key, j.flow)::muskox.move AS move
        FROM unnest(v_queues, v_ids, p_tokens) AS c (queue, id, token)
        JOIN muskox.jobs AS j ON j.queue = c.queue AND j.id = c.id AND j.token = c.token AND j.state = 4
        WHERE j.xmin::text::bigint = (pg_current_xact_id()::text::bigint & 4294967295)
    ) AS m;
    WITH fact AS (
        SELECT DISTINCT ON (c.token) c.queue, c.lane, c.fact, c.token
        FROM unnest(v_queues, v_lanes, v_facts, p_tokens) AS c (queue, lane, fact, token)
        WHERE c.token = ANY (v_mine)
    ), told AS (
        INSERT INTO muskox.events (at, queue, size, kind, body)
        SELECT p_now, f.queue, count(*), 'completed', '[' || string_agg(f.fact, ',' ORDER BY f.token) || ']'
        FROM fact AS f
        GROUP BY f.queue, f.lane
        RETURNING id, size
    ), counted AS (
        INSERT INTO muskox.pending (size, lane, moved, source, target)
        SELECT 0, f.lane, count(*), 3, 4 FROM fact AS f GROUP BY f.lane
    )
    INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
    IF v_moves IS NOT NULL THEN
        SELECT f.queues INTO queues FROM muskox.follow(p_now, v_moves) AS f;
    END IF;
    queues := COALESCE(queues, '{}') || (
        SELECT COALESCE(muskox.add_later(p_now, array_agg(d.queue), array_agg(d.id)), '{}')
        FROM (SELECT DISTINCT u.queue, u.id FROM unnest(v_queues, v_ids) AS u (queue, id)) AS d
    );
    lost := ARRAY(
        SELECT c.place::integer
        FROM unnest(v_queues, v_ids, p_tokens) WITH ORDINALITY AS c (queue, id, token, place)
        WHERE NOT EXISTS (
            SELECT FROM muskox.jobs AS j
            WHERE j.queue = c.queue AND j.id = c.id AND j.token = c.token AND j.state = 4)
        ORDER BY c.place
    );
    RETURN NEXT;
END
$$;

-- All other settlements. p_items is a JSON array of objects: place, queue, lane, id, token, name (as JSON), attempt,
-- kind, state, refund, stalls, releases, delay (microseconds or null), ended, keep (microseconds or null), gone, result,
-- failure, more (the event's further fields as JSON, with a comma in front), repeats (states that mean it was written),
-- over (somebody waits for its end, and it is one),
-- hold (for the delay, of its key 1 or of its queue 2, while the job waits).
CREATE FUNCTION muskox.settle(p_now bigint, p_level text, p_items json)
RETURNS TABLE (lost integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_done integer[];
    v_tids tid[];
    v_rows bigint[];
    v_keys text[];
    v_flows bigint[];
    v_tied boolean[];
    v_counted boolean[];
    v_queues integer[];
    v_waits integer[];
    v_moves muskox.move[];
    v_going muskox.move[];
BEGIN
    PERFORM muskox.relax(p_level);
    -- A job may have been tied since it was claimed, by a limit that was put.
    PERFORM muskox.lock_ties(array_agg(i.queue), array_agg(j.key), array_agg(j.flow), array_agg(j.seq),
                             array_agg(i.queue) FILTER (WHERE i.hold = 2))
    FROM json_to_recordset(p_items) AS i (queue integer, id text, token bigint, hold integer)
    LEFT JOIN muskox.jobs AS j ON j.queue = i.queue AND j.id = i.id AND j.token = i.token AND j.tied
    HAVING count(j.seq) > 0 OR bool_or(i.hold = 2);
    v_now := muskox.tick(p_now, true);
    -- First locked and then, in a statement that sees where they are by now, written.
    WITH item AS (
        SELECT DISTINCT ON (token, queue, id) i.*
        FROM json_to_recordset(p_items) AS i (place integer, queue integer, id text, token bigint)
        ORDER BY token, queue, id, place
    ), held AS (
        SELECT i.place, j.ctid AS tid, j.seq, j.key, j.flow, j.tied, j.counted
        FROM item AS i JOIN muskox.jobs AS j ON j.queue = i.queue AND j.id = i.id
        WHERE j.token = i.token AND j.state + 0 = 3
        ORDER BY i.token
        FOR UPDATE OF j
    )
    SELECT array_agg(h.place), array_agg(h.tid), array_agg(h.seq), array_agg(h.key), array_agg(h.flow),
           array_agg(h.tied), array_agg(h.counted)
    INTO v_done, v_tids, v_rows, v_keys, v_flows, v_tied, v_counted
    FROM held AS h;

    IF v_done IS NOT NULL THEN
        WITH item AS MATERIALIZED (
            SELECT v_tids[n.number] AS tid, v_rows[n.number] AS seq, v_keys[n.number] AS key, v_flows[n.number] AS flow,
                   v_tied[n.number] AS tied, v_counted[n.number] AS counted, i.place, i.queue, i.lane, i.id, i.attempt,
                   i.refund, i.stalls, i.releases, i.ended, i.keep, i.gone AND v_flows[n.number] IS NULL AS gone,
                   i.gone AND v_flows[n.number] IS NOT NULL AS going, i.result, i.failure, h.held,
                   CASE WHEN NOT h.held THEN i.delay END AS delay,
                   CASE WHEN i.state <> 0 AND NOT h.held THEN i.state
                        WHEN v_keys[n.number] IS NULL THEN 0 ELSE 2 END::smallint AS state
            FROM json_to_recordset(p_items) AS i (
                place integer, queue integer, lane integer, id text, attempt integer, state smallint, refund integer,
                stalls integer, releases integer, delay bigint, ended boolean, keep bigint, gone boolean, hold integer,
                result text, failure text)
            CROSS JOIN LATERAL (SELECT array_position(v_done, i.place) AS number) AS n
            CROSS JOIN LATERAL (
                SELECT i.hold = 2 OR (i.hold = 1 AND v_keys[n.number] IS NOT NULL) AS held
            ) AS h
            WHERE i.place = ANY (v_done)
        ), moved AS (
            UPDATE muskox.jobs AS j
            SET state = i.state, attempt = j.attempt - i.refund, stalls = j.stalls + i.stalls,
                releases = j.releases + i.releases, lease_until = NULL, arrival = v_now + COALESCE(i.delay, 0),
                due = CASE WHEN i.delay > 0 THEN v_now + i.delay END, ended = CASE WHEN i.ended THEN v_now END,
                clear_at = v_now + i.keep, result = i.result,
                failure = CASE WHEN i.state = 4 THEN i.failure ELSE COALESCE(i.failure, j.failure) END
            FROM item AS i
            WHERE j.ctid = i.tid AND NOT i.gone
        ), removed AS (
            DELETE FROM muskox.jobs AS j USING item AS i WHERE j.ctid = i.tid AND i.gone RETURNING j.seq
        ), lines AS (
            DELETE FROM muskox.logs AS g USING removed AS r WHERE g.job = r.seq
        ), counted AS (
            INSERT INTO muskox.pending (size, lane, moved, source, target)
            SELECT 0, i.lane, count(*), 3, CASE WHEN NOT i.gone THEN i.state END
            FROM item AS i
            GROUP BY i.lane, i.gone, i.state
        )
        SELECT array_agg(DISTINCT i.queue) FILTER (WHERE i.state = 0), array_agg(i.place) FILTER (WHERE i.state = 0),
               array_agg(ROW(i.seq, i.queue, i.lane, i.attempt - i.refund, 3, CASE WHEN NOT i.gone THEN i.state END,
                             i.counted, i.id, i.key, i.flow)::muskox.move ORDER BY i.place) FILTER (WHERE i.tied),
               array_agg(ROW(i.seq, i.queue, i.lane, 0, i.state, NULL, NULL, i.id, NULL, NULL)::muskox.move) FILTER (WHERE i.going)
        INTO v_queues, v_waits, v_moves, v_going
        FROM item AS i;
        PERFORM muskox.hold(v_now, h.queue, CASE h.hold WHEN 1 THEN h.key END, h.delay)
        FROM (
            SELECT i.queue, i.hold, i.delay, v_keys[array_position(v_done, i.place)] AS key
            FROM json_to_recordset(p_items) AS i (place integer, queue integer, delay bigint, hold integer)
            WHERE i.place = ANY (v_done) AND i.hold > 0
            ORDER BY i.hold DESC, i.queue
        ) AS h
        WHERE h.hold = 2 OR h.key IS NOT NULL;
        WITH told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, i.queue, count(*), i.kind,
                   '[' || string_agg('[' || to_json(i.id)::text || ',' || i.name || ',' || i.attempt
                                     || CASE WHEN i.kind = 'stalled' THEN ',' || j.stalls ELSE i.more END || ']',
                                     ',' ORDER BY i.place) || ']'
            FROM json_to_recordset(p_items) AS i (
                place integer, queue integer, lane integer, id text, name text, attempt integer, kind text, more text)
            LEFT JOIN muskox.jobs AS j ON i.kind = 'stalled' AND j.queue = i.queue AND j.id = i.id
            WHERE i.place = ANY (v_done)
            GROUP BY i.queue, i.lane, i.kind
            RETURNING id, size
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
        -- After the others: what was given back waits.
        WITH told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, i.queue, count(*), 'waiting',
                   '[' || string_agg('[' || to_json(i.id)::text || ',' || i.name || ',' || i.attempt - i.refund || ']',
                                     ',' ORDER BY i.place) || ']'
            FROM json_to_recordset(p_items) AS i (
                place integer, queue integer, lane integer, id text, name text, attempt integer, refund integer)
            WHERE i.place = ANY (v_waits)
            GROUP BY i.queue, i.lane
            RETURNING id, size
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
        IF v_moves IS NOT NULL THEN
            SELECT v_queues || f.queues INTO v_queues FROM muskox.follow(v_now, v_moves) AS f;
        END IF;
        IF v_going IS NOT NULL THEN
            -- Their flows had to see how they ended.
            PERFORM muskox.drop_going(v_now, v_going);
        END IF;
        v_queues := v_queues || muskox.add_later(v_now, array_agg(i.queue), array_agg(i.id))
        FROM json_to_recordset(p_items) AS i (place integer, queue integer, id text, over boolean)
        WHERE i.place = ANY (v_done) AND i.over;
    END IF;
    lost := ARRAY(
        SELECT i.place
        FROM json_to_recordset(p_items) AS i (place integer, queue integer, id text, token bigint, repeats json)
        WHERE i.place <> ALL (COALESCE(v_done, '{}'))
          AND NOT EXISTS (
              SELECT FROM muskox.jobs AS j
              WHERE j.queue = i.queue AND j.id = i.id AND j.token = i.token
                AND j.state::text IN (SELECT json_array_elements_text(i.repeats)))
        ORDER BY i.place
    );
    bells := muskox.awaited(v_queues);
    RETURN NEXT;
END
$$;

-- Prolong leases; returns the places (from 1) of those that were lost.
CREATE FUNCTION muskox.renew(
    p_now bigint, p_level text, p_queues integer[], p_ids text[], p_tokens bigint[], p_lease bigint
) RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now bigint;
    v_held bigint[];
BEGIN
    PERFORM muskox.relax(p_level);
    v_now := muskox.tick(p_now, true);
    PERFORM muskox.lock_runs(p_queues, p_ids, p_tokens);
    WITH held AS (
        UPDATE muskox.jobs AS j
        SET lease_until = v_now + p_lease
        FROM unnest(p_queues, p_ids, p_tokens) AS l (queue, id, token)
        WHERE j.queue = l.queue AND j.id = l.id AND j.token = l.token AND j.state + 0 = 3
        RETURNING j.token
    )
    SELECT array_agg(token) INTO v_held FROM held;
    RETURN ARRAY(
        SELECT l.place::integer FROM unnest(p_tokens) WITH ORDINALITY AS l (token, place)
        WHERE l.token <> ALL (COALESCE(v_held, '{}'))
        ORDER BY l.place
    );
END
$$;

-- Write what runs tell of their jobs. p_items is a JSON array of objects: place, queue, lane, id, token, progress,
-- data, steps, fact (of the progress, as JSON), changed (the fact that the data was changed), lines.
CREATE FUNCTION muskox.annotate(p_now bigint, p_level text, p_items json, p_most integer, p_full text)
RETURNS TABLE (lost integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_tokens bigint[];
    v_rows bigint[];
BEGIN
    PERFORM muskox.relax(p_level);
    v_now := muskox.tick(p_now, true);
    PERFORM muskox.lock_runs(array_agg(i.queue), array_agg(i.id), array_agg(i.token))
    FROM json_to_recordset(p_items) AS i (queue integer, id text, token bigint);
    WITH item AS (
        SELECT i.queue, i.id, i.token,
               (array_agg(i.progress ORDER BY i.place DESC) FILTER (WHERE i.progress IS NOT NULL))[1] AS progress,
               (array_agg(i.data ORDER BY i.place DESC) FILTER (WHERE i.data IS NOT NULL))[1] AS data,
               (array_agg(i.steps ORDER BY i.place DESC) FILTER (WHERE i.steps IS NOT NULL))[1] AS steps
        FROM json_to_recordset(p_items)
             AS i (place integer, queue integer, id text, token bigint, progress text, data text, steps text)
        GROUP BY i.queue, i.id, i.token
    ), held AS (
        UPDATE muskox.jobs AS j
        SET progress = COALESCE(i.progress, j.progress), data = COALESCE(i.data, j.data),
            steps = COALESCE(i.steps, j.steps)
        FROM item AS i
        WHERE j.queue = i.queue AND j.id = i.id AND j.token = i.token AND j.state + 0 = 3
        RETURNING j.token, j.seq
    )
    SELECT array_agg(token), array_agg(seq) INTO v_tokens, v_rows FROM held;
    lost := ARRAY(
        SELECT i.place FROM json_to_recordset(p_items) AS i (place integer, token bigint)
        WHERE i.token <> ALL (COALESCE(v_tokens, '{}'))
        ORDER BY i.place
    );
    IF v_tokens IS NOT NULL THEN
        WITH told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, f.queue, count(*), f.kind, '[' || string_agg(f.fact, ',' ORDER BY f.place) || ']'
            FROM (
                SELECT i.place, i.queue, i.lane, i.token, e.kind, e.fact
                FROM json_to_recordset(p_items)
                     AS i (place integer, queue integer, lane integer, token bigint, fact text, changed text)
                CROSS JOIN LATERAL (VALUES ('progress', i.fact), ('updated', i.changed)) AS e (kind, fact)
            ) AS f
            WHERE f.fact IS NOT NULL AND f.token = ANY (v_tokens)
            GROUP BY f.queue, f.lane, f.kind
            ORDER BY f.kind
            RETURNING id, size
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT id, size, 0 FROM told;
        INSERT INTO muskox.logs (job, number, at, text)
        SELECT line.job, line.number, v_now, CASE WHEN line.number > p_most THEN p_full ELSE line.text END
        FROM (
            SELECT h.job, e.text,
                   (SELECT COALESCE(max(g.number), 0) FROM muskox.logs AS g WHERE g.job = h.job)
                   + row_number() OVER (PARTITION BY h.job ORDER BY i.place, e.number) AS number
            FROM json_to_recordset(p_items) AS i (place integer, token bigint, lines json)
            JOIN unnest(v_tokens, v_rows) AS h (token, job) ON h.token = i.token
            CROSS JOIN LATERAL json_array_elements_text(i.lines) WITH ORDINALITY AS e (text, number)
        ) AS line
        WHERE line.number <= p_most + 1;
    END IF;
    bells := muskox.awaited('{}');
    RETURN NEXT;
END
$$;
