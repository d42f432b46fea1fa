"""Plans: a verb costs its rows and not the table, also when the planner has counted the table at a bad moment."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.job import NewJob
from muskox.core.life import Complete, Fail, Release
from muskox.core.limits import Limits, Rate
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Note, Want
from tests.servers import postgres
from tests.store.flowing import fill, flow, node
from tests.store.reading import BROKEN, figures

LIMIT = 60
ANY = [Want("files")]


@pytest.fixture(scope="module")
def own():
    with postgres.server(**postgres.FAST) as made:
        yield made


async def worked(store):
    """Claims with everything that becomes of them, the way a worker does it: several claims ahead of the answers."""
    jobs = []
    for _ in range(8):
        jobs += await store.claim(ANY, limit=200, worker="w", lease=600)
    for first in range(0, 1600, 200):
        some = [job.lease for job in jobs[first : first + 200]]
        await store.annotate([Note(lease, progress="1") for lease in some[:20]])
        await store.renew(some[20:40], lease=600)
        await store.settle([Complete(lease) for lease in some[:150]])
        await store.settle([Fail(lease, BROKEN) for lease in some[150:175]])
        await store.settle([Release(lease) for lease in some[175:]])


async def counted(own, schema, least):
    """Return once the statistics of so many updates of jobs have come in."""
    said = f"SELECT n_tup_upd FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname = 'jobs'"
    async with asyncio.timeout(LIMIT):
        while (await asyncio.to_thread(own.execute, said))[0][0] < least:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.05)


async def read(own, schema, index, least):
    """How many entries of an index were read, once the statistics of so many updates have come in."""
    await counted(own, schema, least)
    [(entries,)] = own.execute(
        f"SELECT idx_tup_read FROM pg_stat_user_indexes WHERE schemaname = '{schema}' AND indexrelname = '{index}'"
    )
    return entries


async def test_answers_do_not_read_the_index_of_active_jobs_though_it_looked_empty(own):
    with postgres.schema(own.url) as url:
        store = open_store(url, RealWorld())
        await store.open()
        schema = store._location.schema
        await store.add([NewJob(str(number), "files", "resize") for number in range(5000)])
        # Counted while nothing is active: reading all active ones seems to cost nothing.
        own.execute(f"VACUUM ANALYZE {schema}.jobs")
        await worked(store)
        assert await figures(store) == {"waiting": 3600, "completed": 1200, "failed": 200}
        await store.close()

        assert await read(own, schema, "jobs_active", 3200) < 3200


async def test_the_end_of_a_job_reads_what_waits_for_it_and_not_the_tables_of_flows(own):
    flows, each, jobs = 300, 4, 1000
    with postgres.schema(own.url) as url:
        store = open_store(url, RealWorld())
        await store.open()
        schema = store._location.schema
        await store.migrate()
        # Counted while they are empty: reading all of them seems to cost nothing.
        for table in ("jobs", "flows", "nodes", "edges"):
            own.execute(f"VACUUM ANALYZE {schema}.{table}")
        for number in range(flows):
            ids = [f"{number}.{place}" for place in range(each)]
            await flow(store, *(node(id, ids[:place][-1:]) for place, id in enumerate(ids)), id=f"flow-{number}")
        for first in range(0, jobs, 200):
            await fill(store, [f"job-{number}" for number in range(first, first + 200)])
        await store.close_flow("batch")
        while claimed := await store.claim(ANY, limit=100, worker="w", lease=600):
            leases = [job.lease for job in claimed]
            await store.settle([Complete(lease) for lease in leases[:90]])
            await store.settle([Complete(lease, keep=3600) for lease in leases[90:]])
        await store.cancel_flow("flow-7")
        await store.retry_flow("flow-7")
        await store.clear({})
        assert await figures(store) == {"completed": flows * each + jobs}
        await store.close()

        # Claims and settlements write each job twice.
        await read(own, schema, "jobs_waiting", 2 * (flows * each + jobs))
        rows = flows * each
        [(scanned,)] = own.execute(
            f"SELECT sum(seq_tup_read) FROM pg_stat_user_tables "
            f"WHERE schemaname = '{schema}' AND relname IN ('jobs', 'flows', 'nodes', 'edges')"
        )
        found = own.execute(
            f"SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE schemaname = '{schema}' "
            f"AND indexrelname IN ('nodes_pkey', 'edges_pkey', 'edges_parent', 'flows_pkey', 'jobs_flow', 'nodes_job')"
        )
        assert scanned < 100
        assert {name for name, entries in found if entries > 40 * rows} == set()


async def test_keys_and_their_lines_are_found_by_their_indexes_though_they_looked_empty(own):
    """Only those blocked jobs that come to the line are read, however many there are, and no key that is idle."""
    with postgres.schema(own.url) as url:
        store = open_store(url, RealWorld())
        await store.open()
        schema = store._location.schema
        for table in ("jobs", "keys", "limits"):
            own.execute(f"VACUUM ANALYZE {schema}.{table}")
        await store.limit("files", Limits(rate=Rate(10_000_000), key_rate=Rate(10_000_000), key_concurrency=20))
        await store.add([NewJob(f"many-{number}", "files", "resize", key="many") for number in range(5000)])
        await store.add([NewJob(f"{number}", "files", "resize", key=f"k{number}") for number in range(1000)])
        for _ in range(60):
            jobs = await store.claim(ANY, limit=20, worker="w", lease=600)
            await store.settle([Complete(job.lease) for job in jobs])
        await store.promote()
        await store.close()

        opened = 3000
        assert await read(own, schema, "jobs_blocked", 60 * 20 * 2) < opened
        [(scans, rows)] = own.execute(
            f"SELECT seq_scan, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname = 'keys'"
        )
        assert rows == 0, f"keys were scanned {scans} times"
        assert await read(own, schema, "jobs_blocked_shown", 0) == 0
