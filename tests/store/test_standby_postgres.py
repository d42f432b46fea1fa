"""A standby of a PostgreSQL server: what it has when the primary is lost, and what has waited for it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from muskox.core.errors import StoreError, StoreReadOnly
from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Want
from tests.runtime.helpers import until
from tests.servers import postgres

LIMIT = 60
ANY = [Want("files")]


@pytest.fixture
def pair():
    """A primary and its standby; the test may lose either."""
    with postgres.server(fsync="off") as primary, postgres.standby(primary) as standby:
        yield primary, standby


@contextlib.asynccontextmanager
async def opened(url):
    store = open_store(url, RealWorld())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def lost(primary, standby):
    """The primary is killed, and the standby takes its place."""
    await asyncio.to_thread(primary.kill)
    standby.thaw()
    await asyncio.to_thread(standby.execute, "SELECT pg_promote()")


async def test_fault_p12_replicated_adds_wait_for_the_standby_and_survive_the_primary(pair):
    primary, standby = pair
    with pytest.raises(StoreReadOnly, match="is a standby"):
        await open_store(standby.url, RealWorld()).open()
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()")
    await until(lambda: primary.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"), LIMIT)
    ports, hosts = f"{primary.port},{standby.port}", f"{postgres.HOST},{postgres.HOST}"
    both = f"postgresql://{postgres.USER}@/postgres?host={hosts}&port={ports}&target_session_attrs=read-write"
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'muskox'"
    answered = ["first", "second"]

    async with opened(f"{both}&durability=replicated&patience=30") as store:
        await store.add([NewJob("first", "files", "resize")])
        standby.freeze()
        adding = asyncio.create_task(store.add([NewJob("second", "files", "resize")]))
        await until(lambda: primary.execute(waiting), LIMIT)
        assert not adding.done()
        standby.thaw()
        await adding

        async def add(name):
            with contextlib.suppress(StoreError):
                for number in range(1_000_000):
                    await store.add([NewJob(f"{name}{number}", "files", "resize")])
                    answered.append(f"{name}{number}")

        adders = [asyncio.create_task(add(name)) for name in "abc"]
        await until(lambda: len(answered) > 100, LIMIT)
        await lost(primary, standby)
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*adders)

    async with opened(both) as store:
        assert [job is not None for job in await store.get("files", answered)] == [True] * len(answered)
        assert await store.audit() == []


async def test_fault_p12_what_a_standby_had_not_heard_is_lost_from_the_end_and_no_fence_repeats(pair):
    primary, standby = pair
    ids = [f"{number:03}" for number in range(200)]

    async with opened(primary.url) as store:
        for id in ids[:100]:
            await store.add([NewJob(id, "files", "resize")])
        old = await store.claim(ANY, limit=10, worker="a", lease=600)
        [(at,)] = primary.execute("SELECT pg_current_wal_flush_lsn()::text")
        await until(lambda: standby.execute(f"SELECT 1 FROM pg_last_wal_replay_lsn() AS at WHERE at >= '{at}'"), LIMIT)
        standby.freeze()
        for id in ids[100:]:
            await store.add([NewJob(id, "files", "resize")])
        # This one is not heard of.
        later = await store.claim(ANY, limit=10, worker="a", lease=600)
        await lost(primary, standby)

    async with opened(standby.url) as store:
        kept = [job is not None for job in await store.get("files", ids)]
        assert kept[:100] == [True] * 100
        assert kept == sorted(kept, reverse=True)
        again = await store.claim(ANY, limit=20, worker="b", lease=600)
        fences = [job.lease.token for job in [*old, *later, *again]]
        assert len(set(fences)) == len(fences)
        assert min(job.lease.token for job in again) > max(job.lease.token for job in later)
        assert await store.settle([Complete(job.lease) for job in later]) == [job.lease for job in later]
        assert await store.audit() == []
