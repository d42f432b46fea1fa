-- Figures of the past; see migrations/0020.sql.

-- name: record
SELECT muskox.record(%s, %s, %s, %s, %s, %s::jsonb, %s::jsonb);

-- name: history
-- The moment first, in a row without a queue.
SELECT NULL AS queue, NULL AS name, now.now AS at, NULL AS sums, NULL AS peaks FROM muskox.moment(%(now)s) AS now (now)
UNION ALL (
    SELECT h.queue, h.name, h.at, h.sums::text, h.peaks::text
    FROM muskox.moment(%(now)s) AS now (now) JOIN muskox.history AS h ON h.step = %(step)s AND h.at > now.now - %(before)s
    WHERE (%(queue)s::text IS NULL OR h.queue = %(queue)s) AND (h.name <> '') = %(names)s
    ORDER BY h.at, h.queue, h.name
);
