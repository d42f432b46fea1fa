"""Limits over several worker processes, which are killed and frozen: by the store's own record of what it did."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muskox import Job, JobState, Rate
from muskox.core.events import Active, Cancelled, Completed, Failed, JobEvent, Released, Retrying, Stalled
from muskox.runtime.world import RealWorld
from tests.end_to_end.conftest import MAIN, Yard, fenced

ENDS = (Completed, Failed, Retrying, Released, Stalled, Cancelled)


@pytest.fixture(params=MAIN)
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    async with MAIN[request.param](tmp_path, RealWorld()) as (url, _), fenced(Yard(tmp_path, url)) as made:
        yield made


async def told(yard: Yard) -> list[JobEvent]:
    """Every start and end of a run that the store has told of, in order."""
    store, found, after = await yard.ox.store(), [], 0
    while page := await store.events(after=after):
        after = page[-1].offset
        found += [event for event in page if isinstance(event, (Active, *ENDS))]
    return found


async def most_at_once(yard: Yard, of: set[str] | None = None) -> int:
    """How many jobs held a lease at the same time, at most."""
    active: set[str] = set()
    most = 0
    for event in await told(yard):
        if of is None or event.job_id in of:
            (active.add if isinstance(event, Active) else active.discard)(event.job_id)
            most = max(most, len(active))
    return most


def no_window_has_more(starts: list[int], rate: Rate) -> None:
    width = int(rate.per * 1_000_000)
    for number, first in enumerate(starts):
        within = [start for start in starts[number:] if start < first + width]
        assert len(within) <= rate.limit + rate.size - 1


async def frozen_or_killed(yard: Yard, jobs: list[Job]) -> None:
    """Let one worker die and another sleep for longer than its lease, in the middle of the work."""
    first, second = yard.processes[:2]
    await yard.until(lambda: len(yard.facts("start")) >= len(jobs) // 4)
    first.send(signal.SIGKILL)
    second.send(signal.SIGSTOP)
    await yard.until(lambda: len(yard.facts("start")) >= len(jobs) // 2)
    second.send(signal.SIGCONT)


async def test_mission_a18_fault_q01_no_window_has_more_starts_than_its_rate_though_workers_are_killed(yard):
    rate = Rate(60, per=1, burst=6)
    await yard.queue.set_limits(rate=rate)
    jobs = await yard.queue.add_many([("quick", None)] * 180)

    await asyncio.gather(*[yard.start(lease=1, concurrency=10) for _ in range(4)])
    await frozen_or_killed(yard, jobs)
    await yard.all_ended(len(jobs))

    starts = sorted(event.at_us for event in await told(yard) if isinstance(event, Active))
    assert len(starts) >= len(jobs)
    no_window_has_more(starts, rate)
    assert (await yard.queue.counts()).states[JobState.COMPLETED] == len(jobs)


async def test_mission_a18_fault_q03_no_more_run_at_once_than_a_queue_lets_though_workers_are_killed(yard):
    await yard.queue.set_limits(concurrency=5)
    jobs = await yard.queue.add_many([("quick", None)] * 200)

    await asyncio.gather(*[yard.start(lease=1, concurrency=10) for _ in range(3)])
    await frozen_or_killed(yard, jobs)
    await yard.all_ended(len(jobs))

    assert await most_at_once(yard) <= 5
    assert (await yard.queue.limits()).active == 0


async def test_mission_a18_fault_q03_no_more_of_a_key_run_at_once_than_may_though_workers_are_killed(yard):
    await yard.queue.set_limits(key_concurrency=3)
    jobs = await yard.queue.add_many([yard.queue.new("quick", None, key=f"key-{n % 3}") for n in range(240)])

    await asyncio.gather(*[yard.start(lease=1, concurrency=10) for _ in range(3)])
    await frozen_or_killed(yard, jobs)
    await yard.all_ended(len(jobs))

    for number in range(3):
        assert await most_at_once(yard, {job.id for job in jobs if job.key == f"key-{number}"}) <= 3
    assert await yard.queue.keys() == []


async def test_fault_q03_a_frozen_holder_gives_its_slots_back_with_its_lease_and_only_once(yard):
    """It wakes up when others have its slots, ends its runs, and is told that nobody waits for that."""
    await yard.queue.set_limits(key_concurrency=2)
    jobs = [await yard.queue.add("deaf", {"gate": str(yard.gate)}, key="acme") for _ in range(4)]
    frozen = await yard.start(lease=1)
    for job in jobs[:2]:
        await yard.started(job)
    frozen.send(signal.SIGSTOP)

    await yard.start(lease=1)
    await yard.until(lambda: len(yard.facts("start")) >= 4)
    yard.gate.touch()
    frozen.send(signal.SIGCONT)
    await yard.all_ended(len(jobs))

    assert await most_at_once(yard) <= 2
    assert await yard.queue.keys() == []
    assert [(await yard.get(job)).state for job in jobs] == [JobState.COMPLETED] * 4


async def test_fault_q05_a_paused_queue_stays_paused_whoever_is_started_again(yard):
    await yard.queue.pause()
    job = await yard.queue.add("quick", None)
    for _ in range(2):
        process = await yard.start()
        await yard.ox.close()
        assert (await yard.queue.counts()).paused
        process.send(signal.SIGTERM)
        assert await process.gone() == 0
    assert yard.facts("start", job) == []
    await yard.start()

    await yard.queue.resume()

    assert (await yard.ended(job)).state is JobState.COMPLETED
