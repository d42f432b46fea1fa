-- Moving house.

-- Store jobs of another store as they are there; known ids are left as they are. p_items is a JSON array of objects
-- with the columns of a job, the name as JSON, and the lines of its log as [number, at, text].
-- Returns the places (from 0) of the jobs that were stored, and the states in which they are.
CREATE FUNCTION muskox.adopt(p_now bigint, p_items json) RETURNS TABLE (stored integer[], states smallint[], bells text[]) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_rows bigint[];
    v_queues integer[];
    v_ids text[];
    v_moves muskox.move[];
    v_tied muskox.move[];
    v_opened bigint[];
BEGIN
    PERFORM muskox.lock_keys(array_agg(i.queue), array_agg(i.key))
    FROM json_to_recordset(p_items) AS i (queue integer, key text, state smallint)
    WHERE i.key IS NOT NULL AND i.state < 4;
    UPDATE muskox.queues AS q SET keyed = true
    WHERE NOT q.keyed AND q.id IN (
        SELECT i.queue FROM json_to_recordset(p_items) AS i (queue integer, key text) WHERE i.key IS NOT NULL);
    WITH made AS (
        INSERT INTO muskox.jobs
            (queue, lane, id, state, rank, arrival, due, attempt, attempts, stalls, max_stalls, releases, added, started,
             ended, clear_at, options, data, progress, result, failure, steps, tied, key, stood)
        SELECT i.queue, i.lane, i.id, s.state, i.rank, i.arrival, i.due, i.attempt, i.attempts, i.stalls, i.max_stalls,
               i.releases, i.added, i.started, i.ended, i.clear_at, i.options, i.data, i.progress, i.result, i.failure,
               i.steps, CASE WHEN i.key IS NOT NULL THEN true END, i.key, CASE WHEN s.state = 0 AND i.key IS NOT NULL THEN i.arrival END
        FROM (
            SELECT i.*, row_number() OVER (PARTITION BY i.queue, i.key, i.state IN (0, 2) ORDER BY i.place) AS nth
            FROM json_to_recordset(p_items) AS i (
                place integer, queue integer, lane integer, id text, state smallint, rank integer, arrival bigint, due bigint,
                attempt integer, attempts integer, stalls integer, max_stalls integer, releases integer, added bigint,
                started bigint, ended bigint, clear_at bigint, options text, data text, progress text, result text,
                failure text, steps text, key text)
        ) AS i
        -- As in `add_tied`: behind those that are blocked already comes only what `follow` lets in.
        LEFT JOIN muskox.rooms(
            v_now, ARRAY(SELECT o.queue FROM json_to_recordset(p_items) AS o (place integer, queue integer) ORDER BY o.place),
            ARRAY(SELECT o.key FROM json_to_recordset(p_items) AS o (place integer, key text) ORDER BY o.place)) AS r
            ON r.queue = i.queue AND r.name = i.key AND r.blocked = 0 AND i.state IN (0, 2)
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN i.state NOT IN (0, 2) OR i.key IS NULL THEN i.state
                WHEN r.queue IS NOT NULL AND (i.nth <= least(r.most, r.may) - r.open) IS NOT FALSE THEN 0
                ELSE 2
            END AS state
        ) AS s
        ORDER BY i.place
        ON CONFLICT (queue, id) DO NOTHING
        RETURNING seq, queue, lane, id, attempt, state, key
    )
    SELECT array_agg(m.seq), array_agg(m.queue), array_agg(m.id), array_agg(m.move ORDER BY m.seq),
           array_agg(m.move ORDER BY m.seq) FILTER (WHERE m.key IS NOT NULL AND m.state < 4)
    INTO v_rows, v_queues, v_ids, v_moves, v_tied
    FROM (
        SELECT m.*, ROW(m.seq, m.queue, m.lane, m.attempt, NULL, m.state, NULL, m.id, m.key, NULL)::muskox.move AS move FROM made AS m
    ) AS m;
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
    PERFORM muskox.tell_moves(v_now, k.kind, m.moves)
    FROM (VALUES (1, 'waiting', '{0,2}'::smallint[]), (2, 'delayed', '{1}'), (3, NULL, '{4,5,6}')) AS k (number, kind, states)
    CROSS JOIN LATERAL (
        SELECT array_agg(m::muskox.move) AS moves FROM unnest(v_moves) AS m WHERE m.target = ANY (k.states)
    ) AS m
    WHERE m.moves IS NOT NULL;
    IF v_tied IS NOT NULL THEN
        SELECT f.opened INTO v_opened FROM muskox.follow(v_now, v_tied) AS f;
    END IF;
    states := ARRAY(
        SELECT CASE WHEN m.seq = ANY (v_opened) THEN 0 ELSE m.target END
        FROM unnest(stored) WITH ORDINALITY AS s (place, number)
        JOIN json_to_recordset(p_items) AS i (place integer, queue integer, id text) ON i.place = s.place
        JOIN unnest(v_moves) AS m ON m.queue = i.queue AND m.id = i.id
        ORDER BY s.number
    );
    bells := muskox.awaited(v_queues);
    RETURN NEXT;
END
$$;
