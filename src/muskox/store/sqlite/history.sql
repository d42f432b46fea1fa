-- Figures of the past; see migrations/0007.sql.

-- name: read_cell
SELECT sums, peaks FROM muskox_history WHERE step = :step AND at = :at AND queue = :queue AND name = :name;

-- name: write_cell
INSERT INTO muskox_history (step, at, queue, name, sums, peaks) VALUES (:step, :at, :queue, :name, :sums, :peaks)
ON CONFLICT (step, at, queue, name) DO UPDATE SET sums = excluded.sums, peaks = excluded.peaks;

-- name: read_sampled
SELECT at, added FROM muskox_sampled;

-- name: write_sampled
UPDATE muskox_sampled SET at = :now, added = :added;

-- name: forget_cells
DELETE FROM muskox_history WHERE step = :step AND at < :before;

-- name: read_history
-- :queue NULL means all queues; :names whether of whole queues or of names in them.
SELECT queue, name, at, sums, peaks
FROM muskox_history
WHERE step = :step AND at > :after AND (:queue IS NULL OR queue = :queue) AND (name <> '') = :names
ORDER BY at, queue, name;
