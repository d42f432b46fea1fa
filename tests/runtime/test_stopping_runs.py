"""Runs that are told to stop: at their timeout, when they are cancelled, when they are removed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from muskox import ActiveJob, FailureKind, Fixed, JobState, Muskox, SyncActiveJob
from tests.runtime import isolated
from tests.runtime.helpers import ended, reached, until


async def test_mission_a12_an_async_run_is_cancelled_at_its_timeout(ox: Muskox) -> None:
    queue = ox.queue("email")
    ends: list[str] = []

    @queue.processor("slow", timeout=0.05, attempts=2, backoff=Fixed(0))
    async def slow(job: ActiveJob) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append(f"{job.attempt} {job.cancelled}")
            raise

    async with ox.worker():
        job = await ended(queue, await queue.add("slow"))

    assert ends == ["1 True", "2 True"]
    assert job.failure is not None
    assert (job.state, job.attempt, job.failure.kind) == (JobState.FAILED, 2, FailureKind.TIMEOUT)
    assert "0.05" in job.failure.message


async def test_mission_a12_an_isolated_run_is_killed_at_its_timeout(ox: Muskox, tmp_path: Path) -> None:
    queue = ox.queue("email")
    queue.processor("stubborn", isolated=True, timeout=2)(isolated.stubborn)
    notes = tmp_path / "pids"

    async with ox.worker():
        job = await ended(queue, await queue.add("stubborn", {"notes": str(notes)}))
        gone = not _alive(int(notes.read_text()))

    assert job.failure is not None
    assert job.failure.kind is FailureKind.TIMEOUT
    assert gone


async def test_a_run_within_its_timeout_is_left_alone(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("quick", timeout=20)
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    async with ox.worker():
        jobs = await queue.add_many([queue.new("quick") for _ in range(100)])
        for job in jobs:
            assert await queue.result(job.id, timeout=10) == "done"


async def test_timeouts_of_runs_that_ended_take_no_memory(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("quick", timeout=3600)
    async def quick() -> None:
        return None

    async with ox.worker(concurrency=50) as worker:
        await queue.add_many([queue.new("quick") for _ in range(6000)])
        await _all_completed(ox, 6000)
        waiting = len(worker._runs.deadlines._wheel)

    assert waiting < 3000


async def test_a_timeout_may_be_a_jobs_own(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("slow", timeout=60)
    async def slow() -> None:
        await asyncio.sleep(60)

    async with ox.worker():
        job = await ended(queue, await queue.add("slow", timeout=0.05))

    assert job.failure is not None
    assert job.failure.kind is FailureKind.TIMEOUT


async def test_timeouts_end_in_their_own_order(ox: Muskox) -> None:
    queue = ox.queue("email")
    order: list[float] = []

    @queue.processor("slow")
    async def slow(after: float) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            order.append(after)

    async with ox.worker():
        jobs = [await queue.add("slow", {"after": t}, timeout=t) for t in (0.3, 0.1, 0.2)]
        for job in jobs:
            await ended(queue, job)

    assert order == [0.1, 0.2, 0.3]


async def test_a_run_is_told_when_another_program_cancels_its_job(filed: Muskox, url: str) -> None:
    queue = filed.queue("email")
    ends: list[str] = []

    @queue.processor("long")
    async def long(job: ActiveJob) -> None:
        await job.progress(1)
        try:
            await asyncio.sleep(60)
        finally:
            ends.append(f"cancelled {job.cancelled}")

    async with filed.worker(), Muskox(url) as other:
        job = await queue.add("long")
        await reached(queue, job, lambda now: now.progress == 1)
        await other.queue("email").cancel(job.id)
        asked = filed.world.monotonic()
        await until(lambda: ends)
        took = filed.world.monotonic() - asked

    found = await queue.get(job.id)
    assert found is not None
    assert found.state is JobState.CANCELLED
    assert ends == ["cancelled True"]
    assert took < 3


async def test_a_thread_sees_that_its_job_was_cancelled(ox: Muskox) -> None:
    queue = ox.queue("email")
    seen: list[bool] = []

    @queue.processor("long")
    def long(job: SyncActiveJob) -> None:
        job.progress(1)
        until = ox.world.monotonic() + 20
        while not job.cancelled and ox.world.monotonic() < until:
            pass
        seen.append(job.cancelled)

    async with ox.worker(lease=0.6) as worker:
        job = await queue.add("long")
        await reached(queue, job, lambda now: now.progress == 1)
        await queue.cancel(job.id)
        await until(lambda: seen)
        await until(lambda: worker._threads.leaked == 0)

    assert seen == [True]


async def test_an_isolated_run_is_killed_when_its_job_is_cancelled(ox: Muskox, tmp_path: Path) -> None:
    queue = ox.queue("email")
    queue.processor("stubborn", isolated=True)(isolated.stubborn)
    notes = tmp_path / "pids"

    async with ox.worker(lease=0.6) as worker:
        job = await queue.add("stubborn", {"notes": str(notes)})
        await reached(queue, job, lambda now: now.progress is not None)
        pid = int(notes.read_text())
        await queue.cancel(job.id)
        await until(lambda: pid not in worker._children.pids)

    found = await queue.get(job.id)
    assert found is not None
    assert found.state is JobState.CANCELLED
    assert not _alive(pid)


@pytest.mark.parametrize("verb", ["cancel", "remove"])
async def test_fault_d12_what_was_taken_away_while_it_ran_stays_so_and_may_come_again(ox: Muskox, verb: str) -> None:
    queue = ox.queue("email")
    gates = [asyncio.Event(), asyncio.Event()]
    begun = [asyncio.Event(), asyncio.Event()]
    runs: list[int] = []

    @queue.processor("long")
    async def long(job: ActiveJob) -> str:
        number = len(runs)
        runs.append(job.fence)
        begun[number].set()
        while True:
            try:
                await gates[number].wait()
                return f"run {number}"
            except asyncio.CancelledError:
                continue

    async with ox.worker(lease=30):
        await queue.add("long", id="one")
        await begun[0].wait()
        await getattr(queue, verb)("one")
        if verb == "cancel":
            await queue.retry("one")
        else:
            await queue.add("long", id="one")
        await begun[1].wait()
        gates[0].set()  # the first run ends under a lease that is long over
        await ended_first(ox)
        between = await queue.get("one")
        gates[1].set()
        result = await queue.result("one", timeout=10)

    assert between is not None
    assert between.state is JobState.ACTIVE
    assert result == "run 1"
    assert runs[1] > runs[0]


async def ended_first(ox: Muskox) -> None:
    """Give the first run's settlement the time to reach the store, by a job that passes the same way after it."""
    probe = ox.queue("probe")
    store = await ox.store()
    await store.add([probe.new("nothing")])
    for _ in range(20):
        await store.counts()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("ways", "expected"),
    [("return", JobState.COMPLETED), ("raise", JobState.WAITING), ("cancelled", JobState.WAITING)],
)
async def test_fault_w08_retry_and_release_are_never_both_written(ox: Muskox, ways: str, expected: JobState) -> None:
    queue = ox.queue("email")
    told: list[str] = []
    for kind in ("retrying", "released", "completed", "failed"):
        ox.on(kind)(lambda event: told.append(event.kind))

    @queue.processor("caught", attempts=3, backoff=Fixed(0))
    async def caught(job: ActiveJob) -> str:
        await job.progress(1)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if ways == "raise":
                raise ValueError("while it was cancelled") from None
            if ways == "cancelled":
                raise
        return "done"

    worker = ox.worker(shutdown_timeout=0)
    async with worker:
        job = await queue.add("caught")
        await reached(queue, job, lambda now: now.progress == 1)

    found = await queue.get(job.id)
    assert found is not None
    assert found.state is expected
    assert len(told) == 1
    assert told == [{"return": "completed", "raise": "retrying", "cancelled": "released"}[ways]]
    assert (found.attempt, found.releases) == {"return": (1, 0), "raise": (1, 0), "cancelled": (0, 1)}[ways]


async def _all_completed(ox: Muskox, count: int) -> Any:
    async with asyncio.timeout(20):
        while (await ox.queue("email").counts()).states[JobState.COMPLETED] < count:  # noqa: ASYNC110 - as in helpers
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
