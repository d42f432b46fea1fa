-- Moving house.

-- Store jobs of another store as they are there; known ids are left as they are. p_items is a JSON array of objects
-- with the columns of a job, the name as JSON, and the lines of its log as [number, at, text].
-- Returns the places (from 0) of the jobs that were stored.
CREATE FUNCTION muskox.adopt(p_now bigint, p_items json) RETURNS TABLE (stored integer[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_rows bigint[];
    v_queues integer[];
    v_ids text[];
    v_state smallint;
BEGIN
    WITH made AS (
        INSERT INTO muskox.jobs
            (queue, lane, id, state, rank, arrival, due, attempt, attempts, stalls, max_stalls, releases, added, started,
             ended, clear_at, options, data, progress, result, failure, steps)
        SELECT i.queue, i.lane, i.id, i.state, i.rank, i.arrival, i.due, i.attempt, i.attempts, i.stalls, i.max_stalls,
               i.releases, i.added, i.started, i.ended, i.clear_at, i.options, i.data, i.progress, i.result, i.failure,
               i.steps
        FROM json_to_recordset(p_items) AS i (
            place integer, queue integer, lane integer, id text, state smallint, rank integer, arrival bigint, due bigint,
            attempt integer, attempts integer, stalls integer, max_stalls integer, releases integer, added bigint,
            started bigint, ended bigint, clear_at bigint, options text, data text, progress text, result text,
            failure text, steps text)
        ORDER BY i.place
        ON CONFLICT (queue, id) DO NOTHING
        RETURNING seq, queue, id
    )
    SELECT array_agg(m.seq), array_agg(m.queue), array_agg(m.id) INTO v_rows, v_queues, v_ids FROM made AS m;
    -- Of twins the first is the one that was stored.
    stored := ARRAY(
        SELECT min(i.place)
        FROM json_to_recordset(p_items) AS i (place integer, queue integer, id text)
        JOIN unnest(v_queues, v_ids) AS m (queue, id) ON m.queue = i.queue AND m.id = i.id
        GROUP BY i.queue, i.id
        ORDER BY 1
    );
    PERFORM muskox.dedup_adopt(v_now, p_items, stored);
    INSERT INTO muskox.logs (job, number, at, text)
    SELECT m.seq, (e.line ->> 0)::integer, (e.line ->> 1)::bigint, e.line ->> 2
    FROM json_to_recordset(p_items) AS i (place integer, queue integer, id text, lines json)
    JOIN unnest(v_rows, v_queues, v_ids) AS m (seq, queue, id) ON m.queue = i.queue AND m.id = i.id
    CROSS JOIN LATERAL json_array_elements(i.lines) AS e (line)
    WHERE i.place = ANY (stored);
    INSERT INTO muskox.pending (size, lane, moved, target)
    SELECT 0, i.lane, count(*), i.state
    FROM json_to_recordset(p_items) AS i (place integer, lane integer, state smallint)
    WHERE i.place = ANY (stored)
    GROUP BY i.lane, i.state;
    FOREACH v_state IN ARRAY '{0,1}'::smallint[] LOOP
        WITH told AS (
            INSERT INTO muskox.events (at, queue, size, kind, body)
            SELECT v_now, i.queue, count(*), CASE v_state WHEN 0 THEN 'waiting' ELSE 'delayed' END,
                   '[' || string_agg('[' || to_json(i.id)::text || ',' || i.name || ',' || i.attempt || ']', ',' ORDER BY i.place) || ']'
            FROM json_to_recordset(p_items)
                 AS i (place integer, queue integer, id text, name text, state smallint, attempt integer)
            WHERE i.place = ANY (stored) AND i.state = v_state
            GROUP BY i.queue
            RETURNING id, size
        )
        INSERT INTO muskox.pending (event, size, moved) SELECT t.id, t.size, 0 FROM told AS t;
    END LOOP;
    bells := muskox.awaited(v_queues);
    RETURN NEXT;
END
$$;
