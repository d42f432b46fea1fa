"""The order of locks in PostgreSQL: verbs that need the same rows wait for each other, and never in a circle.

Each case has two verbs meet that lock several things each. A third connection holds one of these until both wait, so
that each has by then what it takes before; the server, which looks soon, must find no deadlock.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import psycopg
import pytest

from muskox.core.flows import FlowJob, FlowKind, NewFlow
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Fail, Hold, Release
from muskox.core.limits import Limits, Rate, WhenFull
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Note, Selection, Want
from tests.servers import postgres
from tests.store.reading import BROKEN, figures

LIMIT = 60
SOON = {"deadlock_timeout": "10ms"}

A_JOB = "SELECT FROM jobs WHERE id = %s FOR UPDATE"
A_KEY = "SELECT FROM keys WHERE name = %s FOR UPDATE"
THE_LIMITS = "SELECT FROM limits WHERE record <> %s FOR UPDATE"


@pytest.fixture(scope="module")
def own():
    with postgres.server(**postgres.FAST, **SOON) as made:
        yield made


@pytest.fixture
async def place(own):
    with postgres.emptied(own.url) as url:
        yield url


@pytest.fixture
async def store(place):
    opened = open_store(place, RealWorld())
    await opened.open()
    yield opened
    await opened.close()


@asynccontextmanager
async def held(place, said, what):
    """A row is held by a connection of its own, in the schema of the store."""
    url, _, schema = place.rpartition("?schema=")
    async with await psycopg.AsyncConnection.connect(url, options=f"-c search_path={schema}") as connection:
        assert (await connection.execute(said, [what])).rowcount == 1
        yield connection
        await connection.rollback()


async def until_waiting(own, count):
    async with asyncio.timeout(LIMIT), await psycopg.AsyncConnection.connect(own.url, autocommit=True) as connection:
        while True:
            asked = await connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            if await asked.fetchone() == (count,):
                return


def keyed(*ids):
    """Jobs whose keys are the first letters of their ids."""
    return [NewJob(id, "files", "resize", key=id[0]) for id in ids]


async def run(store, *jobs):
    """Add jobs and claim them; gives their leases in that order."""
    await store.add(jobs)
    claimed = await store.claim([Want("files")], limit=len(jobs), worker="w", lease=600)
    leases = {job.id: job.lease for job in claimed}
    return [leases[job.id] for job in jobs]


async def rows_of_jobs(store):
    first, second, third = await run(store, *(NewJob(id, "files", "resize") for id in "123"))
    return (
        A_JOB,
        "2",
        store.renew([third, second, first], lease=600),
        store.settle([Complete(first), Complete(second), Complete(third)]),
    )


async def rows_whose_ids_are_in_another_order(store):
    leases = await run(store, *(NewJob(id, "files", "resize") for id in "321"))
    return (
        A_JOB,
        "2",
        store.annotate([Note(lease, progress="1") for lease in leases]),
        store.settle([Fail(lease, BROKEN) for lease in leases]),
    )


async def keys_of_jobs_that_have_moved(store):
    a, _, z = await run(store, *keyed("a0", "m0", "z0"))
    await store.annotate([Note(a, progress="1")])
    return A_KEY, "m", store.add(keyed("a1", "m1", "z1")), store.settle([Complete(a), Complete(z)])


async def keys_that_were_forgotten(store):
    leases = await run(store, *keyed("b0", "m0", "z0"))
    await store.settle([Fail(lease, BROKEN) for lease in leases])
    await store.add(keyed("m1", "z1"))
    ids = ("b0", "m0", "z0")
    return A_KEY, "m", store.retry(Selection("files", ids=ids)), store.add(keyed("b1", "m2", "z2"))


async def bounds_and_keys_of_dropped_jobs(store):
    await store.limit("files", Limits(max_waiting=2, when_full=WhenFull.DROP_OLDEST))
    await store.add(keyed("z0", "m0"))
    return A_KEY, "z", store.add(keyed("z1")), store.add(keyed("a1"))


async def limits_of_a_held_queue(store):
    await store.limit("files", Limits(rate=Rate(1000)))
    [lease] = await run(store, *keyed("a0"))
    return (
        THE_LIMITS,
        "{}",
        store.limit("files", Limits(concurrency=5)),
        store.settle([Release(lease, 0.001, Hold.QUEUE)]),
    )


async def the_key_of_what_follows_a_batch(store):
    follower = NewJob("a0", "files", "tell", key="a")
    await store.add(keyed("a2"))
    await store.grow(NewFlow("batch", FlowKind.BATCH, settled=follower), [FlowJob(job) for job in keyed("d0")])
    claimed = await store.claim([Want("files")], limit=9, worker="w", lease=600)
    [last] = [job.lease for job in claimed if job.id == "d0"]
    return A_KEY, "a", store.add(keyed("a1", "d1")), store.settle([Complete(last)])


CASES = (
    rows_of_jobs,
    rows_whose_ids_are_in_another_order,
    keys_of_jobs_that_have_moved,
    keys_that_were_forgotten,
    bounds_and_keys_of_dropped_jobs,
    limits_of_a_held_queue,
    the_key_of_what_follows_a_batch,
)


@pytest.mark.parametrize("meet", CASES, ids=lambda meet: meet.__name__)
async def test_verbs_lock_in_one_order(own, place, store, meet):
    before = own.log().count("deadlock detected")
    said, what, one, other = await meet(store)
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group, held(place, said, what):
        group.create_task(one)
        await until_waiting(own, 1)
        group.create_task(other)
        await until_waiting(own, 2)

    assert own.log().count("deadlock detected") == before, own.log()[-4000:]
    assert await store.audit() == []


async def test_what_is_next_of_a_key_is_not_waited_for_and_not_overtaken(place, store):
    """A claim that saw a job in line keeps its row locked though it was blocked since: two would meet in a circle."""
    await store.limit("files", Limits(key_concurrency=1))
    await store.add(keyed("a0", "a1", "a2"))
    [first] = await store.claim([Want("files")], limit=9, worker="w", lease=600)
    async with held(place, A_JOB, "a1"):
        async with asyncio.timeout(LIMIT):
            assert await store.settle([Complete(first.lease)]) == []
            assert await store.claim([Want("files")], limit=9, worker="w", lease=600) == []
        assert (await store.get("files", ["a1"]))[0].state is JobState.BLOCKED

    [second] = await store.claim([Want("files")], limit=9, worker="w", lease=600)

    assert second.id == "a1"
    assert await store.audit() == []
    assert await figures(store) == {"completed": 1, "active": 1, "blocked": 1}
