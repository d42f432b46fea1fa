"""The log of facts: in order, dense, read after a cursor by anybody, and never trimmed in silence."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from muskox.core.events import Held, JobEvent, QueueError, Trimmed
from muskox.core.job import NewJob
from muskox.core.life import LEGAL, Complete, Fail, Release, Retry
from muskox.store.protocol import Note, Selection, Want
from tests.store.reading import BROKEN, events, kinds, latest, one

LIMIT = 10  # seconds within which what must happen happens, on a slow machine


async def busy(store, clock, claim, jobs=30):
    """A bit of everything."""
    for number in range(jobs):
        await store.add([NewJob(str(number), ("files", "email")[number % 2], "resize", delay=(0, 1)[number % 5 == 0])])
    clock.advance(2)
    await store.promote()
    for queue in ("files", "email"):
        for number, job in enumerate(await claim(jobs // 3, queue=queue)):
            await store.annotate([Note(job.lease, progress=str(number))])
            one = (Complete(job.lease), Fail(job.lease, BROKEN), Retry(job.lease, 0, BROKEN), Release(job.lease))[
                number % 4
            ]
            await store.settle([one])
    await store.cancel(Selection("files", limit=2))
    await store.remove(Selection("email", limit=2))
    await store.pause("files", True)


async def test_fault_i8_offsets_grow_by_one_and_none_is_left_out(store, clock, claim):
    await busy(store, clock, claim)

    found = await events(store)

    assert [event.offset for event in found] == list(range(1, len(found) + 1))
    assert await latest(store) == len(found)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_fault_i8_a_reader_may_stop_anywhere_and_go_on(store, clock, claim, limit):
    await busy(store, clock, claim)
    seen, after = [], 0

    while page := await store.events(after=after, limit=limit):
        assert len(page) <= limit
        seen += page
        after = page[-1].offset

    assert seen == await events(store)


async def test_events_are_read_per_queue(store, clock, claim):
    await busy(store, clock, claim)

    everything = await events(store)

    for queue in ("files", "email"):
        assert await events(store, queue=queue) == [event for event in everything if event.queue == queue]
    assert await events(store, queue="nowhere") == []


async def test_events_carry_the_moment_of_the_store(store, clock, add):
    await add()
    clock.advance(3)
    await add()

    first, second = await events(store)

    assert second.at_us - first.at_us == 3_000_000
    assert second.at.timestamp() == clock.now()


STATE_AFTER = {
    "waiting": "waiting", "delayed": "delayed", "active": "active", "completed": "completed", "failed": "failed",
    "cancelled": "cancelled", "retrying": "delayed", "released": "waiting",
}  # fmt: skip


async def test_fault_i6_the_events_of_a_job_are_its_legal_moves_in_order(store, clock, claim):
    await busy(store, clock, claim)
    paths: dict[tuple[str, str], list[str]] = {}
    for event in await events(store):
        if isinstance(event, JobEvent) and event.kind in STATE_AFTER:
            paths.setdefault((event.queue, event.job_id), []).append(STATE_AFTER[event.kind])

    moves = {
        move
        for path in paths.values()
        for move in pairwise(path)
        # "retrying" and "released" are followed by the "waiting" of the same step
        if move not in {("delayed", "waiting"), ("waiting", "waiting")}
    }

    assert moves <= {(str(source), str(target)) for source, target in LEGAL}


async def test_events_are_seen_from_another_store(shared, another):
    _, store = shared
    await store.add([NewJob("a", "files", "resize")])
    await another.claim([Want("files")], limit=1, worker="w", lease=30)

    assert await events(another) == await events(store)
    assert await kinds(store) == ["waiting", "active", "drained"]


async def test_fault_i8_two_writers_share_one_row_of_offsets(shared, another):
    _, store = shared

    await asyncio.gather(*((store, another)[n % 2].add([NewJob(str(n), "files", "resize")]) for n in range(100)))

    assert [event.offset for event in await events(store)] == list(range(1, 101))


async def test_minus_one_gives_the_latest_offset_at_once(store, add):
    [empty] = await store.events(after=-1)
    assert (type(empty), empty.offset) == (Trimmed, 0)

    await add()
    await add()
    [start] = await store.events(after=-1, seconds=60)
    assert (type(start), start.offset) == (Trimmed, 2)
    assert await store.events(after=start.offset) == []


async def test_nothing_new_is_an_empty_list_at_once(store, add):
    await add()

    assert await store.events(after=1) == []


async def test_waiting_for_events_ends_when_there_is_one(store, add):
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        reading = group.create_task(store.events(after=0, seconds=3600))
        await asyncio.sleep(0)
        await add(id="a")

    assert [event.job_id for event in reading.result()] == ["a"]


async def test_mission_a14_waiting_for_events_ends_when_another_store_writes_one(shared, another):
    _, store = shared

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        reading = group.create_task(store.events(after=0, seconds=3600))
        await asyncio.sleep(0)
        await another.add([NewJob("a", "files", "resize")])

    assert [event.job_id for event in reading.result()] == ["a"]


async def test_waiting_for_events_ends_when_its_time_is_over(store, clock):
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        reading = group.create_task(store.events(after=0, seconds=60))
        await asyncio.sleep(0)
        clock.advance(61)

    assert reading.result() == []


async def test_a_reader_of_one_queue_is_not_answered_for_another(store, add):
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        reading = group.create_task(store.events(after=0, queue="email", seconds=3600))
        await asyncio.sleep(0)
        await add(id="a", queue="files")
        await add(id="b", queue="email")

    assert [event.job_id for event in reading.result()] == ["b"]


async def test_a_cancelled_wait_does_no_harm(store, add):
    reading = asyncio.create_task(store.events(after=0, seconds=3600))
    waiting = asyncio.create_task(store.wait(["files"], seconds=3600))
    await asyncio.sleep(0)
    for task in (reading, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await add()
    assert await kinds(store) == ["waiting"]


async def wakes(store, queues, act):
    """Have somebody wait while something is done; passes when the wait ends within the limit."""
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(store.wait(queues, seconds=3600))
        await asyncio.sleep(0)
        await act()


async def test_a_wait_ends_when_a_job_begins_to_wait(store, add):
    await wakes(store, ["email", "files"], add)


async def test_a_wait_ends_when_a_job_is_due(store, clock, add):
    await add(delay=1)
    clock.advance(1)

    await wakes(store, ["files"], store.promote)


async def test_a_wait_ends_when_a_queue_is_resumed(store, add):
    await add()
    await store.pause("files", True)

    await wakes(store, ["files"], lambda: store.pause("files", False))


@pytest.mark.parametrize("end", [Release, lambda lease: Retry(lease, 0, BROKEN)], ids=["released", "retried"])
async def test_a_wait_ends_when_a_job_is_given_back(store, add, claim, end):
    await add()
    [job] = await claim()

    await wakes(store, ["files"], lambda: store.settle([end(job.lease)]))


async def test_a_wait_ends_when_a_stalled_job_is_recovered(store, clock, add, claim):
    await add()
    await claim(lease=1)
    clock.advance(2)

    await wakes(store, ["files"], store.recover)


@pytest.mark.parametrize("verb", ["retry", "promote"])
async def test_a_wait_ends_when_a_job_is_moved_by_hand(store, add, verb):
    await add(id="a", delay=60)
    if verb == "retry":
        await store.cancel(Selection("files"))

    await wakes(store, ["files"], lambda: getattr(store, verb)(Selection("files")))


async def test_a_wait_ends_when_another_store_adds_a_job(shared, another):
    _, store = shared

    await wakes(store, ["files"], lambda: another.add([NewJob("a", "files", "resize")]))


async def test_a_wait_ends_when_its_time_is_over(store):
    async with asyncio.timeout(LIMIT):
        await store.wait(["files"], seconds=0.01)


async def test_published_facts_get_their_place_from_the_store(store, clock, add):
    await add()

    await store.publish([QueueError("files", 0, 0, "a listener raised"), Held("files", 99, 99, "resize", 3)])

    now = int(clock.now() * 1e6)
    assert (await events(store))[1:] == [
        QueueError("files", 2, now, "a listener raised"),
        Held("files", 3, now, "resize", 3),
    ]


async def test_facts_may_be_published_about_a_queue_without_jobs(store):
    await store.publish([QueueError("nowhere", 0, 0, "lost connection")])

    assert [event.queue for event in await events(store)] == ["nowhere"]


async def test_fault_e02_trimmed_events_are_never_left_out_in_silence(store, clock, add, few_events):
    for number in range(30):
        await add(id=str(number))
        clock.advance(1)  # what came in one moment may be kept as one record, of which all or nothing is trimmed
    await store.clear({})

    first, *rest = await store.events(after=3)

    assert isinstance(first, Trimmed)
    assert rest[0].offset == first.offset + 1
    assert [event.offset for event in rest] == list(range(first.offset + 1, 31))
    assert len(rest) >= few_events


async def test_fault_e02_a_reader_that_has_seen_all_is_not_told_of_trimming(store, add, few_events):
    for number in range(30):
        await add(id=str(number))
    await store.clear({})
    await add(id="new")

    assert [(type(event), event.offset) for event in await store.events(after=30)] == [
        (type((await events(store))[-1]), 31)
    ]


async def test_a_reader_that_has_seen_what_the_store_has_lost_is_told_so_and_hears_what_follows(store, add):
    await add(id="before")

    [told] = await store.events(after=1000, seconds=30)
    await add(id="after")
    [follows] = await store.events(after=told.offset)

    assert (type(told), told.offset) == (Trimmed, 1)
    assert (follows.job_id, follows.offset) == ("after", 2)


async def test_offsets_go_on_after_trimming(store, add, few_events):
    for number in range(30):
        await add(id=str(number))
    await store.clear({})
    before = await latest(store)

    await add(id="new")

    assert (before, await latest(store)) == (30, 31)
    assert (await one(store, "new")).id == "new"
