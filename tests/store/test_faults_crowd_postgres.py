"""Faults of a PostgreSQL database that others use too: a storm of notifications, a transaction that stays open."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest

from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.postgres.bells import GAP
from muskox.store.protocol import Want
from tests.servers import postgres
from tests.store.reading import figures

LIMIT = 60
ANY = [Want("files")]


@pytest.fixture(scope="module")
def own():
    with postgres.server(**postgres.FAST) as made:
        yield made


@pytest.fixture
def place(own):
    with postgres.schema(own.url) as url:
        yield url


@asynccontextmanager
async def opened(url):
    store = open_store(url, RealWorld())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def new(number):
    return NewJob(str(number), "files", "resize")


async def test_fault_p14_many_adds_at_once_ring_no_more_bells_than_there_are_gaps(own, place):
    adders, each = 2, 400
    async with AsyncExitStack() as stack:
        waiter = await stack.enter_async_context(opened(place))
        stores = [await stack.enter_async_context(opened(f"{place}&pool=32")) for _ in range(adders)]
        listener = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(own.url, autocommit=True, application_name="listener")
        )
        await listener.execute(f'LISTEN "{place.rpartition("=")[2]}.bells"')
        # Whoever asks for the first time looks once more, and waits from then on.
        await waiter.wait(["files"], seconds=0)
        waiting = asyncio.create_task(waiter.wait(["files"], seconds=LIMIT))

        begun = time.monotonic()
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(store.add([new(f"{n}.{m}")]) for n, store in enumerate(stores) for m in range(each)))
            await waiting
            for store in stores:
                await store.close()  # rings what is due
        gaps = (time.monotonic() - begun) / GAP
        await listener.execute("SELECT pg_notify(%s, 'end')", (f"{place.rpartition('=')[2]}.bells",))
        told = 0
        async for one in listener.notifies(timeout=LIMIT):
            if one.payload == "end":
                break
            told += one.payload == "files"

        assert 1 <= told <= adders * (gaps + 2)
        assert told < adders * each / 2
        assert await figures(waiter) == {"waiting": adders * each}


async def test_fault_p07_a_transaction_that_stays_open_costs_claims_no_more_than_what_ran_meanwhile(own, place):
    schema, done = place.rpartition("=")[2], 3_000

    def reads(index):
        [found] = own.execute(
            f"SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes "
            f"WHERE schemaname = '{schema}' AND indexrelname = '{index}'"
        )
        return found

    async def read_by_a_claim():
        """Entries of the index of waiting jobs that one claim reads, and those that it claimed."""
        before = reads("jobs_waiting")
        async with opened(place) as store:
            claimed = await store.claim(ANY, limit=1, worker="w", lease=60)
        # The statistics come in when the connection has ended.
        async with asyncio.timeout(LIMIT):
            while (after := reads("jobs_waiting"))[0] == before[0]:  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.01)
        return after[1] - before[1], len(claimed)

    async with opened(place) as store:
        await store.add([new(number) for number in range(done + 3)])
    with psycopg.connect(own.url, application_name="forgotten") as forgotten:
        forgotten.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        forgotten.execute("SELECT")
        async with opened(place) as store:
            for _ in range(done // 500):
                jobs = await store.claim(ANY, limit=500, worker="w", lease=60)
                assert await store.settle([Complete(job.lease) for job in jobs]) == []
        own.execute(f"VACUUM {schema}.jobs")

        entries, claimed = await read_by_a_claim()

        assert claimed == 1
        assert entries <= done + 100
    own.execute(f"VACUUM {schema}.jobs")

    entries, claimed = await read_by_a_claim()

    assert claimed == 1
    assert entries < 100
    async with opened(place) as store:
        assert await figures(store) == {"waiting": 1, "active": 2, "completed": done}
        assert await store.audit() == []
