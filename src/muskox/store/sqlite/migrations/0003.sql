-- A job that is added alone is only stored: that it waits is told and counted by the next transaction that does more,
-- for all such jobs together. They are those whose rows come after `told`.
ALTER TABLE muskox_meta ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE muskox_meta SET told = COALESCE((SELECT max(seq) FROM muskox_jobs), 0);
