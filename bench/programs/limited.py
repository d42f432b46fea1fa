"""A worker that drains a queue with limits and keys, by the public API alone."""

from __future__ import annotations

import asyncio
import time

from bench.programs.ours import KEEP, PATIENCE
from muskox import JobState, Muskox, Rate
from muskox.queue import Queue

__all__ = ["drain", "fair"]

BATCH = 1000


async def drain(
    url: str, jobs: int, concurrency: int, *, rate: int | None = None, keys: int = 0, key_concurrency: int | None = None
) -> dict[str, float]:
    """Add jobs, with a key in turn of so many, and run them; the rate from the worker's start until all are stored."""
    async with Muskox(url) as ox:
        queue = ox.queue("bench", retention=KEEP, rate=Rate(rate) if rate else None, key_concurrency=key_concurrency)
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

        for first in range(0, jobs, BATCH):
            numbers = range(first, min(first + BATCH, jobs))
            await queue.add_many(
                queue.new("noop", {"index": index}, key=f"key-{index % keys}" if keys else None) for index in numbers
            )
        begun = time.perf_counter()
        async with ox.worker(concurrency=concurrency), asyncio.timeout(PATIENCE):
            await all_ran.wait()
            await _all_completed(queue, jobs)
            took = time.perf_counter() - begun
        if set(seen) != {1}:
            raise RuntimeError("a job did not run exactly once")
        findings = await ox.audit()
        if findings:
            raise RuntimeError(f"the audit found {len(findings)} faults, the first: {findings[0]}")
    return {"rate": jobs / took}


async def fair(url: str, many: int, few: int, concurrency: int) -> dict[str, float]:
    """Run jobs of two keys that were added together; when the small one was done, in shares of the whole time."""
    async with Muskox(url) as ox:
        queue = ox.queue("bench", retention=KEEP)
        left = {"many": many, "few": few}
        began: list[float] = []
        ended: dict[str, float] = {}
        all_ran = asyncio.Event()

        @queue.processor("noop")
        async def noop(key: str) -> None:
            if not began:
                began.append(time.perf_counter())
            left[key] -= 1
            if not left[key]:
                ended[key] = time.perf_counter()
                if len(ended) == len(left):
                    all_ran.set()

        new = [queue.new("noop", {"key": "many"}, key="many") for _ in range(many)]
        new[many:many] = [queue.new("noop", {"key": "few"}, key="few") for _ in range(few)]
        for first in range(0, len(new), BATCH):
            await queue.add_many(new[first : first + BATCH])
        async with ox.worker(concurrency=concurrency), asyncio.timeout(PATIENCE):
            await all_ran.wait()
    return {"share": (ended["few"] - began[0]) / (max(ended.values()) - began[0])}


async def _all_completed(queue: Queue, jobs: int) -> None:
    while (await queue.counts()).states[JobState.COMPLETED] < jobs:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
