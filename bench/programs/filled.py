"""Jobs that are added and run, as a batch or plain, by the public API alone."""

from __future__ import annotations

import asyncio
import resource
import time

from bench.programs.ours import KEEP, PATIENCE
from muskox import JobState, Muskox

__all__ = ["fill"]

PIECE = 1000


async def fill(url: str, jobs: int, concurrency: int, *, as_batch: bool) -> dict[str, float]:
    """Add jobs a thousand at a time, and run them; the rate over both, and by how much the adding has grown us."""
    async with Muskox(url) as ox:
        queue = ox.queue("bench", retention=KEEP)
        followed = asyncio.Event()

        @queue.processor("noop")
        async def noop(index: int) -> None: ...

        @queue.processor("done")
        async def done() -> None:
            followed.set()

        await ox.migrate()
        before, begun = _memory(), time.perf_counter()
        new = (queue.new("noop", {"index": index}) for index in range(jobs))
        if as_batch:
            async with ox.batch("batch", completed=queue.new("done", id="done")) as batch:
                await batch.add_many(new)
        else:
            for first in range(0, jobs, PIECE):
                await queue.add_many([next(new) for _ in range(min(PIECE, jobs - first))])
        grown = _memory() - before
        async with ox.worker(concurrency=concurrency), asyncio.timeout(PATIENCE):
            if as_batch:
                await followed.wait()
            while (await queue.counts()).states[JobState.COMPLETED] < jobs + as_batch:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            took = time.perf_counter() - begun
        if as_batch:
            found = await ox.flows.get("batch")
            if found is None or found.completed != jobs:
                raise RuntimeError(f"the batch does not know that its {jobs} jobs were completed: {found}")
    return {"rate": jobs / took, "grown": grown}


def _memory() -> float:
    """The most that this process has ever taken, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
