"""Figures: kept up with every move, equal to a scan, and the same from every store object."""

from __future__ import annotations

import pytest

from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Fail
from muskox.store.protocol import NameCount, QueueCounts, Selection, Want, WorkerRecord
from tests.store.reading import BROKEN, figures

ZEROS = dict.fromkeys(JobState, 0)


async def counted(store, queue="files"):
    [counts] = await store.counts([queue])
    return counts


async def test_a_queue_that_never_had_a_job_has_zeros(store):
    assert await store.counts(["nowhere"]) == [QueueCounts("nowhere", False, ZEROS, [], 0, None)]
    assert await store.counts() == []


async def test_mission_a16_every_state_has_its_figure(store, add, claim):
    for _ in range(6):
        await add()
    a, b, _ = await claim(3)
    await store.settle([Complete(a.lease), Fail(b.lease, BROKEN)])
    await add(delay=5)
    await store.cancel(Selection("files", states=(JobState.WAITING,), limit=1))

    counts = await counted(store)

    assert counts.states == ZEROS | {
        JobState.WAITING: 2, JobState.ACTIVE: 1, JobState.COMPLETED: 1, JobState.FAILED: 1, JobState.DELAYED: 1,
        JobState.CANCELLED: 1,
    }  # fmt: skip
    assert counts.total == 7
    assert await store.audit() == []


async def test_queues_come_in_the_order_asked_for_or_all(store, add):
    for queue in ("b", "a", "c"):
        await add(queue=queue)

    assert [counts.queue for counts in await store.counts(["c", "nowhere", "a"])] == ["c", "nowhere", "a"]
    assert sorted(counts.queue for counts in await store.counts()) == ["a", "b", "c"]


async def test_names_are_counted_apart(store, add, claim):
    await add("resize")
    await add("resize", delay=5)
    await add("convert")
    await claim(names=frozenset({"convert"}))

    names = {count.name: count for count in (await counted(store)).names}

    assert names == {
        "resize": NameCount("resize", ZEROS | {JobState.WAITING: 1, JobState.DELAYED: 1}),
        "convert": NameCount("convert", ZEROS | {JobState.ACTIVE: 1}),
    }


async def test_a_cleared_queue_keeps_its_zeros(store, add):
    await add(id="a")
    await store.remove(Selection("files", ids=("a",)))

    assert [(counts.queue, counts.total) for counts in await store.counts()] == [("files", 0)]


async def test_pause_is_shown(store, add):
    await add()
    await store.pause("files", True)

    assert (await counted(store)).paused
    await store.pause("files", False)
    assert not (await counted(store)).paused


async def test_mission_a05_what_no_live_worker_can_run_is_held(store, clock, add):
    await add("resize")
    await add("convert")
    await add("convert")
    await add("convert", delay=60)
    assert (await counted(store)).held == 3

    await store.beat(WorkerRecord("w", "host", 1, (Want("files", frozenset({"resize"})),), 5))
    assert (await counted(store)).held == 2

    await store.beat(WorkerRecord("v", "host", 2, (Want("files"),), 5))
    assert (await counted(store)).held == 0

    clock.advance(31)
    assert (await counted(store)).held == 3


async def test_a_worker_for_another_queue_runs_nothing_here(store, add):
    await add("resize")

    await store.beat(WorkerRecord("w", "host", 1, (Want("email"),), 5))

    assert (await counted(store)).held == 1


async def test_the_age_of_the_oldest_waiting_job_is_told(store, clock, add, claim):
    await add(id="a", priority=9)
    clock.advance(5)
    await add("convert", id="b", priority=1)
    clock.advance(2.5)
    assert (await counted(store)).oldest_waiting == 7.5

    await claim(1)
    assert (await counted(store)).oldest_waiting == 2.5

    await claim(1)
    assert (await counted(store)).oldest_waiting is None


async def test_a_delayed_job_does_not_wait_yet(store, clock, add):
    await add(delay=60)
    clock.advance(5)

    assert (await counted(store)).oldest_waiting is None


async def test_the_oldest_is_found_among_many_priorities(store, clock, add):
    for priority in range(100):
        await add(priority=priority)
    clock.advance(3)
    await add(priority=-1)

    assert (await counted(store)).oldest_waiting == 3


async def test_figures_are_the_same_from_another_store(shared, another):
    _, store = shared
    await store.add([NewJob(str(number), "files", "resize") for number in range(3)])

    assert await figures(another) == {"waiting": 3}
    await another.claim([Want("files")], limit=2, worker="w", lease=30)
    assert await figures(store) == {"waiting": 1, "active": 2}


@pytest.mark.parametrize("verb", ["promote", "retry", "cancel", "remove"])
async def test_figures_survive_bulk_moves(store, add, claim, verb):
    for number in range(20):
        await add(("resize", "convert")[number % 2], delay=(0, 60)[number % 4 == 0])
    jobs = await claim(6)
    await store.settle([Fail(job.lease, BROKEN) for job in jobs[:3]])

    await getattr(store, verb)(Selection("files"))

    assert await store.audit() == []
