"""Jobs that are added alone are only stored, and told of later, which nobody who looks must notice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Selection, Want
from muskox.store.sqlite.schema import apply
from muskox.testing import FakeWorld
from tests.processes import started, until
from tests.store.reading import events, figures, kinds

PROGRAM = "tests.store.process_sqlite"
LIMIT = 60


@pytest.fixture
def file(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(file):
    opened = open_store(f"sqlite:///{file}", RealWorld())
    await opened.open()
    yield opened
    await opened.close()


async def add(store, id, queue="files", name="resize", **fields):
    await store.add([NewJob(id, queue, name, **fields)])


def untold(file):
    """How many jobs are stored and not told of."""
    with closing(sqlite3.connect(file)) as db:
        [(number,)] = db.execute("SELECT count(*) FROM muskox_jobs WHERE seq > (SELECT told FROM muskox_meta)")
        return number


async def test_they_are_told_of_in_their_order_and_once(store, file):
    for number in range(40):
        await add(store, str(number), "files" if number % 3 else "email", delay=60 * (number % 5 == 0))
    assert untold(file) == 40, "else this test would say nothing"

    told = await events(store)

    assert [event.job_id for event in told] == [str(number) for number in range(40)]
    assert [event.offset for event in told] == list(range(1, 41))
    assert all(event.kind == ("delayed" if int(event.job_id) % 5 == 0 else "waiting") for event in told)
    assert untold(file) == 0
    assert await events(store) == told


async def test_their_events_have_the_moments_of_their_adding(file):
    clock = FakeWorld()
    store = open_store(f"sqlite:///{file}", clock)
    await store.open()
    for number in range(5):
        await add(store, str(number))
        clock.advance(60)

    added = [job.added_us for job in (await store.find(Selection("files"))).jobs]

    assert len(set(added)) == 5
    assert [event.at_us for event in await events(store)] == added
    await store.close()


async def test_figures_hold_them_before_anything_is_told(store, file):
    for number in range(7):
        await add(store, str(number), delay=60 * (number % 2))

    assert await figures(store) == {"waiting": 4, "delayed": 3}
    assert await store.audit() == []
    assert untold(file) == 7


async def test_they_wait_before_they_are_claimed(store):
    await add(store, "a")
    await add(store, "b")

    jobs = await store.claim([Want("files")], limit=10, worker="w", lease=60)
    await store.settle([Complete(job.lease) for job in jobs])

    assert await kinds(store) == ["waiting", "waiting", "active", "active", "drained", "completed", "completed"]
    assert await figures(store) == {"completed": 2}
    assert await store.audit() == []


async def test_a_follower_that_begins_now_is_not_told_of_what_was_before(store):
    await add(store, "before")

    [now] = await store.events(after=-1)
    await add(store, "after")

    assert [event.job_id for event in await store.events(after=now.offset)] == ["after"]


async def test_a_follower_is_woken_by_one(store):
    [now] = await store.events(after=-1)
    waiting = asyncio.create_task(store.events(after=now.offset, seconds=LIMIT))
    async with asyncio.timeout(LIMIT / 2):
        while not store._hub._bells:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.005)
        await add(store, "a")

        assert [event.job_id for event in await waiting] == ["a"]


async def test_one_that_has_the_row_of_a_removed_one_is_told_of_too(store, file):
    for number in range(3):
        await add(store, str(number))
    assert await store.remove(Selection("files", ids=["1", "2"])) == 2
    with closing(sqlite3.connect(file)) as db:
        db.execute("DELETE FROM muskox_jobs WHERE id = '0'")  # by hand, of which the store knows nothing
        db.execute("UPDATE muskox_lanes SET waiting = 0")
        db.commit()

    for number in range(3, 6):
        await add(store, str(number))

    assert [event.job_id for event in await events(store) if event.kind == "waiting"] == list("012345")
    assert await figures(store) == {"waiting": 3}
    assert await store.audit() == []


async def test_one_is_told_of_that_comes_in_the_transaction_that_removes_the_last(store):
    await store.add([NewJob(str(number), "files", "resize") for number in range(20)])

    await asyncio.gather(  # through the line, in one transaction, since they wait there together
        store.remove(Selection("files", ids=["18", "19"])),
        store.add([NewJob(f"new-{number}", "files", "resize") for number in range(20)]),
    )

    assert {event.job_id for event in await events(store) if event.kind == "waiting"} >= {"new-0", "new-19"}
    assert await figures(store) == {"waiting": 38}
    assert await store.audit() == []


async def test_a_known_id_is_answered_and_told_of_once(store):
    await add(store, "a", data="1")

    [again] = await store.add([NewJob("a", "files", "resize", data="2")])

    assert (again.created, again.job.data_text) == (False, "1")
    assert await kinds(store) == ["waiting"]


async def test_what_a_killed_producer_has_added_is_told_of_by_others(file):
    for _ in range(3):
        async with asyncio.timeout(LIMIT), started(PROGRAM, "produce", f"sqlite:///{file}") as producer:
            await until(producer, "added")
            producer.kill()
    store = open_store(f"sqlite:///{file}", RealWorld())
    await store.open()
    try:
        [counts] = await store.counts(["files"])
        told = Counter(event.job_id for event in await events(store) if event.kind == "waiting")

        assert len(told) == sum(counts.states.values()) > 0
        assert set(told.values()) == {1}
        assert await store.audit() == []
    finally:
        await store.close()


async def test_several_producers_and_a_reader_lose_and_double_nothing(file):
    store = open_store(f"sqlite:///{file}", RealWorld())
    await store.open()
    offsets = []

    async def read():
        after = 0
        while len(offsets) < 3 * 300:
            page = await store.events(after=after, seconds=1.0)
            offsets.extend(event.offset for event in page)
            after = page[-1].offset if page else after

    async def produce(name):
        other = open_store(f"sqlite:///{file}", RealWorld())
        await other.open()
        for number in range(300):
            await add(other, f"{name}-{number}")
            await asyncio.sleep(0)
        await other.close()

    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(read(), *(produce(name) for name in "abc"))
        assert offsets == list(range(1, 3 * 300 + 1))
        assert await figures(store) == {"waiting": 900}
        assert await store.audit() == []
    finally:
        await store.close()


async def test_jobs_of_a_file_from_before_are_not_told_of_again(file):
    with closing(sqlite3.connect(file)) as db:
        apply(db)
        db.execute("DELETE FROM muskox_migrations WHERE name = '0003'")
        db.execute("ALTER TABLE muskox_meta DROP COLUMN told")
        db.execute("INSERT INTO muskox_queues (name) VALUES ('files')")
        db.execute("INSERT INTO muskox_lanes (queue, name, waiting) VALUES (1, 'resize', 1)")
        db.execute(
            "INSERT INTO muskox_jobs (queue, lane, id, state, priority, arrival, added, data) "
            "VALUES (1, 1, 'old', 0, 0, 1, 1, 'null')"
        )
        db.commit()
    store = open_store(f"sqlite:///{file}", RealWorld())
    await store.open()
    try:
        await add(store, "new")

        assert [event.job_id for event in await events(store)] == ["new"]
        assert await figures(store) == {"waiting": 2}
        assert await store.audit() == []
    finally:
        await store.close()
