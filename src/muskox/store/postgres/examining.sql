-- What `examine` asks a server: figures that it keeps anyway, which any role may see. Nothing is locked or scanned.

-- name: server
-- One row: version, settings, clock, connections, age of the oldest row, and how this connection came here.
SELECT current_setting('server_version'),
       current_setting('autovacuum') = 'on' AND current_setting('track_counts') = 'on',
       current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
       current_setting('synchronous_commit'),
       extract(epoch FROM clock_timestamp())::float8,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('max_connections')::int,
       (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()),
       inet_server_addr() IS NOT NULL AND NOT inet_server_addr() <<= ANY ('{127.0.0.0/8,::1/128}'::inet[]),
       COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)

-- name: oldest_transaction
-- The transaction of somebody else in this database that has been open longest.
SELECT pid, COALESCE(application_name, ''), state, extract(epoch FROM now() - xact_start)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
ORDER BY xact_start
LIMIT 1

-- name: tables
-- Each table of our schema with its live and dead rows, how often it was vacuumed, and whether it opted out of that.
SELECT s.relname, n_live_tup, n_dead_tup, autovacuum_count + vacuum_count,
       COALESCE((SELECT bool_or(o = 'autovacuum_enabled=false') FROM unnest(c.reloptions) o), false)
FROM pg_stat_user_tables s
JOIN pg_class c ON c.oid = s.relid
WHERE schemaname = %(schema)s
ORDER BY n_dead_tup DESC
