"""Clearing: what is old goes, by age and by count, and nothing that has not ended."""

from __future__ import annotations

import pytest

from muskox.core.job import NewJob, Retention
from muskox.core.life import Complete, Fail
from muskox.store.protocol import Note, Selection
from tests.store.reading import BROKEN, everything, figures, kinds

DAY = 86_400


async def end(store, claim, id, how, *, queue="files", keep=None):
    await store.add([NewJob(id, queue, "resize")])
    if how == "cancelled":
        await store.cancel(Selection(queue, ids=(id,)))
        return
    [job] = await claim(queue=queue)
    ending = Complete(job.lease, keep=keep) if how == "completed" else Fail(job.lease, BROKEN, keep=keep)
    assert await store.settle([ending]) == []


async def left(store, queue="files"):
    return sorted(job.id for job in (await store.find(Selection(queue))).jobs)


@pytest.mark.parametrize(("how", "days"), [("completed", 1), ("failed", 14), ("cancelled", 14)])
async def test_mission_a21_ended_jobs_are_kept_for_a_while(store, clock, claim, how, days):
    await end(store, claim, "a", how)
    clock.advance(days * DAY - 1)

    assert await store.clear({}) == 0

    clock.advance(2)
    assert await store.clear({}) == 1
    assert await store.get("files", ["a"]) == [None]
    assert await figures(store) == {}
    assert await store.audit() == []


async def test_mission_a21_age_is_set_per_queue(store, clock, claim):
    await end(store, claim, "a", "completed", queue="files")
    await end(store, claim, "a", "completed", queue="email")
    clock.advance(61)

    assert await store.clear({"email": Retention(completed_for=60)}) == 1
    assert [await left(store, "files"), await left(store, "email")] == [["a"], []]


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
async def test_mission_a21_beyond_the_count_the_oldest_go(store, clock, claim, how):
    for number in range(5):
        await end(store, claim, str(number), how)
        clock.advance(1)
    rule = Retention(completed_most=2, failed_most=2)

    assert await store.clear({"files": rule}) == 3
    assert await left(store) == ["3", "4"]
    assert await store.clear({"files": rule}) == 0


async def test_the_count_is_per_state(store, clock, claim):
    for number in range(3):
        await end(store, claim, f"c{number}", "completed")
        await end(store, claim, f"f{number}", "failed")
        clock.advance(1)

    await store.clear({"files": Retention(completed_most=1, failed_most=2)})

    assert await left(store) == ["c2", "f1", "f2"]


async def test_mission_a21_a_time_of_the_jobs_own_comes_before_the_queues(store, clock, claim):
    await end(store, claim, "short", "completed", keep=60)
    await end(store, claim, "long", "failed", keep=100 * DAY)
    clock.advance(61)
    assert await store.clear({}) == 1
    assert await left(store) == ["long"]

    clock.advance(99 * DAY)
    assert await store.clear({}) == 0

    clock.advance(2 * DAY)
    assert await store.clear({}) == 1


async def test_what_went_by_its_own_time_does_not_count_twice(store, clock, claim):
    for number in range(3):
        await end(store, claim, f"own-{number}", "completed", keep=5)
        await end(store, claim, f"kept-{number}", "completed")
    clock.advance(6)

    assert await store.clear({"files": Retention(completed_most=3)}) == 3
    assert await left(store) == ["kept-0", "kept-1", "kept-2"]


async def test_fault_b06_clearing_is_bounded_and_the_oldest_go_first(store, clock, claim):
    for number in range(5):
        await end(store, claim, str(number), "completed")
        clock.advance(1)
    clock.advance(2 * DAY)

    assert await store.clear({}, limit=2) == 2
    assert await left(store) == ["2", "3", "4"]
    assert [await store.clear({}, limit=2) for _ in range(3)] == [2, 1, 0]


async def test_what_has_not_ended_is_never_cleared(store, clock, add, claim):
    await add(id="active")
    await claim()
    await add(id="waiting")
    await add(id="delayed", delay=1000 * DAY)
    clock.advance(500 * DAY)
    before = await everything(store)

    nothing = Retention(completed_for=0, completed_most=0, failed_for=0, failed_most=0)

    assert await store.clear({"files": nothing}) == 0
    assert await everything(store) == before


async def test_a_job_that_is_retried_is_not_cleared_for_its_past(store, clock, claim):
    await end(store, claim, "a", "failed", keep=60)
    await store.retry(Selection("files", ids=("a",)))
    clock.advance(61)

    assert await store.clear({}) == 0
    assert await left(store) == ["a"]


async def test_logs_go_with_their_job_and_nothing_is_told(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    await store.annotate([Note(job.lease, lines=("line",))])
    await store.settle([Complete(job.lease)])
    before = await kinds(store)
    clock.advance(2 * DAY)

    await store.clear({})

    assert await store.logs("files", "a") == []
    assert await kinds(store) == before
    assert await store.audit() == []


async def test_a_rule_for_a_queue_without_jobs_does_no_harm(store):
    assert await store.clear({"nowhere": Retention(completed_most=0)}) == 0
