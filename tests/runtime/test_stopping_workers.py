"""A worker that stops: gently, at once, in the middle of a claim; nothing is lost and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from muskox import ActiveJob, JobState, Muskox, StoreUnavailable
from muskox.runtime.leases import LeaseKeeper
from muskox.runtime.world import RealWorld
from muskox.store.protocol import Traits
from tests.runtime.flaky import FlakyStore
from tests.runtime.helpers import ended, reached, until


async def test_fault_w05_a_gentle_stop_lets_runs_end_and_starts_no_more(ox: Muskox) -> None:
    queue = ox.queue("email")
    gate, starts = asyncio.Event(), 0

    @queue.processor("long")
    async def long() -> str:
        nonlocal starts
        starts += 1
        await gate.wait()
        return "done"

    jobs = await queue.add_many([queue.new("long") for _ in range(30)])
    worker = ox.worker(concurrency=20, shutdown_timeout=20)
    async with worker:
        await until(lambda: worker._slots.running == 20)
        worker.stop()
        later = await queue.add("long")
        gate.set()

    counts = await queue.counts()
    assert starts == 20
    assert counts.states[JobState.COMPLETED] == 20
    assert counts.states[JobState.WAITING] == len(jobs) - 20 + 1
    found = await queue.get(later.id)
    assert found is not None
    assert found.attempt == 0


async def test_fault_w05_runs_that_take_too_long_are_given_back_with_their_attempt(ox: Muskox) -> None:
    queue = ox.queue("email")
    ends: list[bool] = []

    @queue.processor("long")
    async def long(job: ActiveJob) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ends.append(job.cancelled)

    await queue.add_many([queue.new("long") for _ in range(5)])
    worker = ox.worker(concurrency=5, shutdown_timeout=0.1)
    async with worker:
        await until(lambda: worker._slots.running == 5)

    jobs = (await queue.find()).jobs
    assert ends == [True] * 5
    assert {(job.state, job.attempt, job.releases, job.stalls) for job in jobs} == {(JobState.WAITING, 0, 1, 0)}


async def test_fault_w06_a_second_stop_gives_back_at_once(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("long")
    async def long() -> None:
        await asyncio.sleep(60)

    await queue.add_many([queue.new("long") for _ in range(3)])
    worker = ox.worker(shutdown_timeout=60)
    asked = ox.world.monotonic()
    async with worker:
        await until(lambda: worker._slots.running == 3)
        worker.stop()
        await asyncio.sleep(0)
        worker.stop(now=True)

    assert ox.world.monotonic() - asked < 10
    assert {(job.state, job.releases) for job in (await queue.find()).jobs} == {(JobState.WAITING, 1)}


async def test_fault_w07_what_is_claimed_during_a_stop_is_given_back_untouched(
    shaky: Muskox, flaky: FlakyStore
) -> None:
    queue = shaky.queue("email")
    starts: list[str] = []

    @queue.processor("short")
    async def short(job: ActiveJob) -> None:
        starts.append(job.id)

    worker = shaky.worker(poll=0.05)
    async with worker:
        gate = flaky.hold("claim")
        job = await queue.add("short")
        active = await reached(queue, job, lambda now: now.state is JobState.ACTIVE)
        worker.stop()
        await until(lambda: worker._claimer.closed)
        gate.set()

    found = await queue.get(job.id)
    assert active.attempt == 1
    assert found is not None
    assert (found.state, found.attempt, found.releases) == (JobState.WAITING, 0, 1)
    assert starts == []


async def test_a_run_that_hears_no_cancel_does_not_keep_a_worker_from_stopping(
    ox: Muskox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muskox.runtime.deadlines.INSISTENCE", (0.02, 0.02))
    queue = ox.queue("email")
    let_go = asyncio.Event()

    @queue.processor("deaf")
    async def deaf(job: ActiveJob) -> None:
        await job.progress(1)
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with ox.worker(shutdown_timeout=0):
        job = await queue.add("deaf")
        await reached(queue, job, lambda now: now.progress == 1)
    found = await queue.get(job.id)
    let_go.set()

    assert found is not None
    assert (found.state, found.attempt, found.releases) == (JobState.WAITING, 0, 1)


async def test_a_thread_that_hangs_does_not_keep_a_worker_from_stopping(ox: Muskox) -> None:
    queue = ox.queue("email")
    stuck, begun = threading.Event(), threading.Event()

    @queue.processor("stuck")
    def hang() -> None:
        begun.set()
        stuck.wait(30)

    async with ox.worker(shutdown_timeout=0):
        job = await queue.add("stuck")
        await until(begun.is_set)
    found = await queue.get(job.id)
    stuck.set()

    assert found is not None
    assert (found.state, found.releases) == (JobState.WAITING, 1)


async def test_a_worker_whose_task_is_cancelled_gives_its_jobs_back(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("long")
    async def long(job: ActiveJob) -> None:
        await job.progress(1)
        await asyncio.sleep(60)

    task = asyncio.create_task(ox.worker().run())
    job = await queue.add("long")
    await reached(queue, job, lambda now: now.progress == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    found = await queue.get(job.id)
    assert found is not None
    assert (found.state, found.attempt, found.releases) == (JobState.WAITING, 0, 1)


async def test_a_stop_before_the_start_starts_nothing(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("short")
    async def short() -> None:
        return None

    job = await queue.add("short")
    worker = ox.worker()
    worker.stop()
    async with asyncio.timeout(10):
        await worker.run()

    found = await queue.get(job.id)
    assert found is not None
    assert found.state is JobState.WAITING


async def test_workers_that_start_and_stop_at_once_leave_no_thread_and_no_job_behind(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("short")
    async def short() -> None:
        return None

    await queue.add_many([queue.new("short") for _ in range(200)])
    before = threading.active_count()
    for _ in range(20):
        async with ox.worker(concurrency=3):
            pass

    counts = await queue.counts()
    assert counts.states[JobState.ACTIVE] == 0
    assert counts.states[JobState.WAITING] + counts.states[JobState.COMPLETED] == 200
    assert threading.active_count() <= before + 1


async def test_a_keeper_of_leases_may_be_closed_in_the_moment_it_opens() -> None:
    world = RealWorld()
    for _ in range(50):
        keeper = LeaseKeeper(_Nothing, world, lease=30, held=list, lost=lambda leases: None)
        keeper.open()
        async with asyncio.timeout(5):
            await keeper.close()


async def test_a_keeper_of_leases_lives_through_what_it_did_not_expect(
    shaky: Muskox, flaky: FlakyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue = shaky.queue("email")
    gate = asyncio.Event()

    @queue.processor("long")
    async def long() -> str:
        await gate.wait()
        return "done"

    async with shaky.worker(lease=0.6) as worker:
        job = await queue.add("long")
        await until(lambda: flaky.called("renew") >= 1)
        real = worker._keeper._held
        broken = iter([RuntimeError("a bug")])
        monkeypatch.setattr(worker._keeper, "_held", lambda: _raise_next(broken) or real())
        before = flaky.called("renew")
        await until(lambda: flaky.called("renew") >= before + 3)
        gate.set()
        result = await ended(queue, job)

    assert (result.state, result.stalls) == (JobState.COMPLETED, 0)
    assert "a bug" in caplog.text


async def test_a_stop_while_the_store_is_away_ends_in_time(
    shaky: Muskox, flaky: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muskox.runtime.worker.WRITING", 0.3)
    queue = shaky.queue("email")
    gate = asyncio.Event()

    @queue.processor("long")
    async def long(job: ActiveJob) -> None:
        await job.progress(1)
        await gate.wait()

    async with asyncio.timeout(15):
        async with shaky.worker(lease=0.5):
            job = await queue.add("long")
            await reached(queue, job, lambda now: now.progress == 1)
            flaky.away = True
            gate.set()
        flaky.away = False

        async with shaky.worker(lease=0.5):
            settled = await ended(queue, job)

    assert (settled.state, settled.stalls) == (JobState.COMPLETED, 1)


async def test_a_store_that_cannot_be_opened_is_an_error_of_the_start(shaky: Muskox, flaky: FlakyStore) -> None:
    queue = shaky.queue("email")

    @queue.processor("short")
    async def short() -> None:
        return None

    flaky.away = True
    with pytest.raises(StoreUnavailable):
        await shaky.worker().run()
    with pytest.raises(StoreUnavailable):
        async with shaky.worker():
            raise AssertionError("it must not get here")


class _Nothing:
    """A store that is never asked."""

    traits = Traits(loop_bound=False, within=False)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def _raise_next(errors: Any) -> None:
    for error in errors:
        raise error


async def test_a_worker_that_a_fault_of_its_own_ends_says_so_at_once(
    shaky: Muskox, flaky: FlakyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @shaky.queue("email").processor("note")
    async def note() -> None:
        return None

    async def beaten(*_args: Any, **_named: Any) -> None:
        raise TypeError("not an answer of any store")

    monkeypatch.setattr(flaky, "beat", beaten, raising=False)
    with pytest.raises(TypeError, match="not an answer"):
        async with shaky.worker():
            await until(lambda: "stops, because a part of it failed" in caplog.text)
