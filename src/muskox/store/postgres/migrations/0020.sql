-- readers: 0008
-- What was counted by the minute.

-- A cell of `step` seconds from `at` (microseconds) on; `name` '' is the whole queue. Of the figures by name in `sums`
-- and `peaks` the first are added up, and of the others the highest is kept.
CREATE TABLE muskox.history (
    step integer NOT NULL,
    at bigint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    sums jsonb NOT NULL,
    peaks jsonb NOT NULL,
    PRIMARY KEY (step, at, queue, name)
) WITH (fillfactor = 70);

-- The one row: when the latest sample was taken, and how many jobs of each queue had been added by then.
CREATE TABLE muskox.sampled (at bigint NOT NULL, added jsonb NOT NULL);
INSERT INTO muskox.sampled (at, added) VALUES (0, '{}');

CREATE FUNCTION muskox.added_up(p_one jsonb, p_other jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(jsonb_object_agg(f.key, f.total), '{}')
    FROM (
        SELECT e.key, sum(e.value::bigint) AS total
        FROM (SELECT * FROM jsonb_each_text(p_one) UNION ALL SELECT * FROM jsonb_each_text(p_other)) AS e
        GROUP BY e.key
    ) AS f
$$;

CREATE FUNCTION muskox.highest(p_one jsonb, p_other jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(jsonb_object_agg(f.key, f.highest), '{}')
    FROM (
        SELECT e.key, max(e.value::bigint) AS highest
        FROM (SELECT * FROM jsonb_each_text(p_one) UNION ALL SELECT * FROM jsonb_each_text(p_other)) AS e
        GROUP BY e.key
    ) AS f
$$;

-- Add figures to the cells of a moment; p_cells is [{queue, name, sums, peaks}, …], p_steps the sizes of cells in seconds.
CREATE FUNCTION muskox.add_to_cells(p_now bigint, p_steps integer[], p_cells jsonb) RETURNS void LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    -- All take the rows in one order, so that nobody waits for one who waits for him.
    INSERT INTO muskox.history AS h (step, at, queue, name, sums, peaks)
    SELECT s.step, p_now / (s.step * 1000000::bigint) * s.step * 1000000::bigint, c.queue, c.name, c.sums, c.peaks
    FROM jsonb_to_recordset(p_cells) AS c (queue text, name text, sums jsonb, peaks jsonb)
    CROSS JOIN unnest(p_steps) AS s (step)
    ORDER BY 1, 2, c.queue COLLATE "C", c.name COLLATE "C"
    ON CONFLICT (step, at, queue, name) DO UPDATE
    SET sums = muskox.added_up(h.sums, excluded.sums), peaks = muskox.highest(h.peaks, excluded.peaks)
$$;

-- Add what was counted, and take samples when the latest are p_apart microseconds old; returns whether they were taken.
-- p_samples is [{queue, sums, peaks, added}, …], p_kept for how many seconds cells of each size are kept.
CREATE FUNCTION muskox.record(
    p_now bigint, p_level text, p_steps integer[], p_kept integer[], p_apart bigint, p_cells jsonb, p_samples jsonb
) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_now bigint := muskox.tick(p_now, true);
    v_known jsonb;
BEGIN
    PERFORM muskox.relax(p_level);
    PERFORM muskox.add_to_cells(v_now, p_steps, p_cells);
    IF p_samples = '[]' THEN
        RETURN false;
    END IF;
    -- A clock that was set back far must not keep samples away for as long.
    SELECT s.added INTO v_known FROM muskox.sampled AS s
    WHERE v_now - s.at >= p_apart OR v_now - s.at < -60000000
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM muskox.add_to_cells(v_now, p_steps, jsonb_agg(jsonb_build_object(
        'queue', c.queue, 'name', '', 'peaks', c.peaks,
        'sums', c.sums || jsonb_build_object('added', greatest(0, c.added - COALESCE((v_known ->> c.queue)::bigint, 0))))))
    FROM jsonb_to_recordset(p_samples) AS c (queue text, sums jsonb, peaks jsonb, added bigint);
    UPDATE muskox.sampled
    SET at = v_now, added = v_known || (
        SELECT jsonb_object_agg(c.queue, c.added) FROM jsonb_to_recordset(p_samples) AS c (queue text, added bigint));
    DELETE FROM muskox.history AS h
    USING unnest(p_steps, p_kept) AS k (step, kept)
    WHERE h.step = k.step AND h.at < v_now - (k.kept + k.step) * 1000000::bigint;
    RETURN true;
END
$$;
