"""Muskox at the work that is measured: filling a queue and draining it, by its public API alone."""

from __future__ import annotations

import asyncio
import time

from muskox import JobState, Muskox, Queue, Retention

__all__ = ["add", "counts", "drain", "drain_some", "fill"]

KEEP = Retention(completed_most=10**9)
"""Nothing is cleared while it is measured, so that each job can be looked at afterwards."""

PATIENCE = 600.0


async def add(url: str, jobs: int) -> dict[str, float]:
    """Add jobs one by one, each awaited."""
    async with Muskox(url) as ox:
        queue = ox.queue("bench")
        begun = time.perf_counter()
        for index in range(jobs):
            await queue.add("noop", {"index": index})
        rate = jobs / (time.perf_counter() - begun)
        await _expect(queue, waiting=jobs)
    return {"rate": rate}


async def fill(url: str, jobs: int, batch: int = 1000) -> dict[str, float]:
    """Add jobs by `add_many`."""
    async with Muskox(url) as ox:
        queue = ox.queue("bench")
        begun = time.perf_counter()
        for first in range(0, jobs, batch):
            await queue.add_many(("noop", {"index": index}) for index in range(first, min(first + batch, jobs)))
        rate = jobs / (time.perf_counter() - begun)
        await _expect(queue, waiting=jobs)
    return {"rate": rate}


async def drain(url: str, jobs: int, concurrency: int) -> dict[str, float]:
    """Run all waiting jobs; from the worker's start until each is stored as completed. Checks runs and events."""
    async with Muskox(url) as ox:
        queue = ox.queue("bench", retention=KEEP)
        seen = [0] * jobs
        left = jobs
        all_ran = asyncio.Event()

        @queue.processor("noop")
        async def noop(index: int) -> None:
            nonlocal left
            seen[index] += 1
            left -= 1
            if not left:
                all_ran.set()

        begun, used = time.perf_counter(), time.process_time()
        async with ox.worker(concurrency=concurrency), asyncio.timeout(PATIENCE):
            await all_ran.wait()
            while (await queue.counts()).states[JobState.COMPLETED] < jobs:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            rate, cost = jobs / (time.perf_counter() - begun), (time.process_time() - used) / jobs
        await _expect(queue, completed=jobs)
        _once(seen)
        events = await _check_events(ox, queue, jobs)
        findings = await ox.audit()
        if findings:
            raise RuntimeError(f"the audit found {len(findings)} faults, the first: {findings[0]}")
    return {"rate": rate, "cost": cost * 1e6, "events": events}


async def drain_some(url: str, jobs: int, concurrency: int) -> dict[str, float]:
    """Run waiting jobs until `jobs` have run, then stop; the rate up to that run."""
    async with Muskox(url) as ox:
        queue = ox.queue("bench", retention=KEEP)
        left = jobs
        enough = asyncio.Event()
        ended = 0.0

        @queue.processor("noop")
        async def noop(index: int) -> None:  # noqa: ARG001 - as `drain` has
            nonlocal left, ended
            left -= 1
            if left == 0:
                ended = time.perf_counter()
                enough.set()

        begun = time.perf_counter()
        async with ox.worker(concurrency=concurrency), asyncio.timeout(PATIENCE):
            await enough.wait()
    return {"rate": jobs / (ended - begun)}


async def counts(url: str, samples: int) -> dict[str, float]:
    """How many milliseconds the counts of a queue take: half of the times and nineteen of twenty."""
    async with Muskox(url) as ox:
        took = []
        for _ in range(samples):
            begun = time.perf_counter()
            await ox.counts()
            took.append((time.perf_counter() - begun) * 1000)
        [queue] = await ox.counts()
    took.sort()
    return {"median": took[samples // 2], "p95": took[samples * 95 // 100], "rows": queue.total}


async def _expect(queue: Queue, **states: int) -> None:
    found = {str(state): count for state, count in (await queue.counts()).states.items() if count}
    if found != states:
        raise RuntimeError(f"the queue should hold {states} and holds {found}")


def _once(seen: list[int]) -> None:
    others = [index for index, count in enumerate(seen) if count != 1]
    if others:
        raise RuntimeError(f"{len(others)} jobs did not run exactly once, the first is {others[0]}")


async def _check_events(ox: Muskox, queue: Queue, jobs: int) -> int:
    """Read every fact that is still kept: the offsets have no gap and each job is told of once per kind."""
    await queue.pause()  # the last fact, so that the reader knows where to end
    told: set[tuple[str, str]] = set()
    offset, trimmed = 0, 0
    async for event in ox.events(after=0):
        if event.kind == "trimmed":
            offset = trimmed = event.offset
            continue
        if event.offset != offset + 1:
            raise RuntimeError(f"after the event {offset} comes {event.offset}")
        offset = event.offset
        if event.kind == "paused":
            break
        if event.kind in {"waiting", "active", "completed"}:
            key = event.kind, getattr(event, "job_id", "")
            if key in told:
                raise RuntimeError(f"the events say {event.kind} twice of job {key[1]}")
            told.add(key)
    if offset < 3 * jobs or (not trimmed and len(told) != 3 * jobs):
        raise RuntimeError(f"{offset} events and {len(told)} facts about {jobs} jobs are too few")
    return offset
