"""Taking back jobs whose lease ran out: when, how often, and what is told of it."""

from __future__ import annotations

import pytest

from muskox.core.events import Stalled
from muskox.core.failure import FailureKind
from muskox.core.job import JobState
from muskox.core.life import Complete, Retry
from muskox.store.protocol import Recovered, Selection, Want, WorkerRecord
from tests.store.reading import BROKEN, events, everything, figures, kinds, one, state


async def stall(store, clock, claim, *, times=1):
    """Have the one job claimed and its lease run out, so many times."""
    for _ in range(times):
        clock.advance(120)
        await store.promote()
        assert len(await claim(lease=10)) == 1
        clock.advance(11)
        await store.recover()


async def test_mission_a17_a_stalled_job_returns_to_waiting(store, clock, add, claim):
    await add(id="a")
    await claim(worker="worker-a", lease=30)
    clock.advance(31)

    [found] = await store.recover()

    assert found == Recovered(await one(store, "a"), "worker-a")
    assert (found.job.state, found.job.stalls, found.job.attempt) == (JobState.WAITING, 1, 0)
    assert (found.job.lease, found.job.worker) == (None, None)


async def test_a_lease_that_still_runs_is_left_alone(store, clock, add, claim):
    await add(id="a")
    await claim(lease=30)
    clock.advance(30)
    before = await everything(store)

    assert await store.recover() == []
    assert await everything(store) == before


async def test_nothing_stalled_is_nothing_recovered(store, clock, add):
    await add()
    clock.advance(10**6)

    assert await store.recover() == []


async def test_recovery_happens_once(store, clock, add, claim):
    await add(id="a")
    await claim(lease=1)
    clock.advance(2)

    assert len(await store.recover()) == 1
    assert await store.recover() == []
    assert (await one(store, "a")).stalls == 1


async def test_recovery_is_bounded(store, clock, add, claim):
    for _ in range(5):
        await add()
    await claim(5, lease=1)
    clock.advance(2)

    assert [len(await store.recover(limit=2)) for _ in range(4)] == [2, 2, 1, 0]
    assert await figures(store) == {"waiting": 5}


async def test_a_second_stall_waits_a_little_and_then_longer(store, clock, add, claim):
    await add(id="a", max_stalls=9)
    delays = []
    for _ in range(4):
        await stall(store, clock, claim)
        job = await one(store, "a")
        delays.append(None if job.due_us is None else job.due_us / 1e6 - clock.now())

    assert delays == [None, 2, 4, 8]


@pytest.mark.parametrize("max_stalls", [0, 1, 2])
async def test_mission_a17_a_job_that_stalls_too_often_fails_with_the_reason(store, clock, add, claim, max_stalls):
    await add(id="a", max_stalls=max_stalls, attempts=10)

    await stall(store, clock, claim, times=max_stalls)
    if max_stalls:
        assert await state(store, "a") in {JobState.WAITING, JobState.DELAYED}
    await stall(store, clock, claim)

    job = await one(store, "a")
    assert (job.state, job.stalls, job.attempt) == (JobState.FAILED, max_stalls + 1, 0)
    assert job.failure.kind is FailureKind.STALLED
    assert "worker-a" in job.failure.message
    assert job.ended_us == int(clock.now() * 1e6)


async def test_by_default_the_second_stall_is_the_last(store, clock, add, claim):
    await add(id="a")

    await stall(store, clock, claim, times=2)

    assert await state(store, "a") is JobState.FAILED


async def test_stalls_and_attempts_are_counted_apart(store, clock, add, claim):
    await add(id="a", attempts=3, max_stalls=5)
    [job] = await claim()
    await store.settle([Retry(job.lease, 0, BROKEN)])

    await stall(store, clock, claim, times=2)

    job = await one(store, "a")
    assert (job.attempt, job.stalls) == (1, 2)


async def test_a_stall_is_told_before_what_comes_of_it(store, clock, add, claim):
    await add(id="a", max_stalls=2)

    await stall(store, clock, claim, times=3)

    assert await kinds(store, "a") == [
        "waiting", "active", "stalled", "waiting", "active", "stalled", "delayed", "waiting", "active", "stalled",
        "failed",
    ]  # fmt: skip
    told = [event for event in await events(store) if isinstance(event, Stalled)]
    assert [event.stalls for event in told] == [1, 2, 3]


async def test_recovery_does_not_ask_for_the_worker(store, clock, add, claim):
    await add(id="a")
    await claim(worker="worker-a", lease=10)
    clock.advance(11)
    await store.beat(WorkerRecord("worker-a", "host", 1, (), 1))

    assert [found.job.id for found in await store.recover()] == ["a"]


async def test_fault_w13_a_worker_of_the_same_host_and_pid_keeps_no_old_lease_alive(store, clock, add, claim):
    await add(id="a")
    await claim(worker="first-start", lease=10)
    for _ in range(3):
        clock.advance(4)
        await store.beat(WorkerRecord("second-start", "host", 7, (), 1))
        await store.renew([], lease=10)

    assert [found.worker for found in await store.recover()] == ["first-start"]


async def test_a_recovered_job_is_first_in_line_by_no_right(store, clock, add, claim):
    await add(id="a")
    await claim(lease=10)
    await add(id="b")
    clock.advance(11)
    await store.recover()

    assert [job.id for job in await claim(2)] == ["b", "a"]


async def test_fault_t02_a_clock_that_jumps_ahead_completes_no_job_twice(store, clock, add, claim):
    await add(id="a")
    [zombie] = await claim(lease=30)
    clock.jump(3600)
    await store.recover()
    [second] = await claim(lease=30)

    lost = await store.settle([Complete(second.lease, '"second"'), Complete(zombie.lease, '"zombie"')])

    assert lost == [zombie.lease]
    assert (await one(store, "a")).result == "second"
    assert (await kinds(store, "a")).count("completed") == 1


async def test_fault_t03_a_clock_that_is_set_back_an_hour_holds_no_lease_for_ever(store, clock, add, claim):
    await add(id="a")
    await claim(lease=30)
    clock.jump(-3600)
    await add(id="b")

    clock.advance(32)

    assert [found.job.id for found in await store.recover()] == ["a"]


async def test_fault_t03_a_clock_that_is_set_back_an_hour_ends_no_lease_early(store, clock, add, claim):
    await add(id="a")
    await claim(lease=30)
    clock.jump(-3600)
    await add(id="b")

    clock.advance(25)

    assert await store.recover() == []


async def test_fault_t03_a_clock_that_is_set_back_a_little_stands_still_instead(store, clock, add, claim):
    first = await add(id="a")
    clock.jump(-30)
    second = await add(id="b")

    assert second.added_us >= first.added_us
    assert [job.id for job in await claim(2)] == ["a", "b"]


async def test_fault_t03_who_only_looks_sees_too_that_a_clock_was_set_back(store, clock, add):
    await add(id="a")
    clock.jump(-3600)

    looked = await store.schedules()

    assert looked.now_us == int(clock.now() * 1_000_000)


async def test_fault_t04_eight_hours_of_sleep_stall_what_ran_and_nothing_else(store, clock, add, claim):
    await add(id="ran")
    await add(id="waits", queue="email")
    await add(id="due", delay=3600)
    await claim(lease=30)

    clock.advance(8 * 3600)

    assert [found.job.id for found in await store.recover()] == ["ran"]
    assert await store.promote() == 1
    assert await state(store, "waits", "email") is JobState.WAITING
    assert await store.audit() == []


async def test_fault_t01_moments_are_the_stores_and_not_the_callers(shared, another, clock):
    """Both store objects look at one clock; a caller has no way to hand in a moment of its own."""
    _, store = shared
    await store.beat(WorkerRecord("w", "host", 1, (), 1))
    clock.advance(5)

    assert [worker.age for worker in await another.workers()] == [5.0]


async def test_a_job_that_does_not_say_is_claimed_with_the_stalls_of_its_processor(store, clock, add):
    await add("resize", id="silent")
    await add("resize", id="says", max_stalls=0)
    wants = [Want("files", max_stalls={"resize": 2})]

    states = []
    for _ in range(3):
        await store.claim(wants, limit=10, worker="w", lease=30)
        clock.advance(31)
        await store.recover(limit=10)
        await store.promote(Selection("files"))
        states.append([job.state for job in await store.get("files", ["silent", "says"])])

    assert states == [["waiting", "failed"], ["waiting", "failed"], ["failed", "failed"]]
