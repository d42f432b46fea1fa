"""Two programs for the pick-up time: a worker that notes when runs begin, a producer that notes when it added."""

from __future__ import annotations

import asyncio
import random
import resource
import time

from muskox import Muskox

__all__ = ["add_slowly", "idle_worker"]

SETTLE = 2.0
"""Seconds before the idle worker's use of the processor is measured."""


async def idle_worker(url: str, samples: int, idle: float) -> dict[str, object]:
    """Measure the use of the processor without jobs, say "ready", then note the begin of each run."""
    begun: dict[int, int] = {}
    finished = asyncio.Event()
    async with Muskox(url) as ox:
        queue = ox.queue("bench")

        @queue.processor("noop")
        async def noop(index: int) -> None:
            begun[index] = time.perf_counter_ns()
            if len(begun) == samples:
                finished.set()

        async with ox.worker(concurrency=10):
            await asyncio.sleep(SETTLE)
            used, started = _used(), time.perf_counter()
            await asyncio.sleep(idle)
            share = (_used() - used) / (time.perf_counter() - started)
            print("ready", flush=True)
            async with asyncio.timeout(120):
                await finished.wait()
    return {"idle": share, "begun": [begun[index] for index in range(samples)]}


async def add_slowly(url: str, samples: int) -> dict[str, object]:
    """Add jobs with random pauses; note the moments before and after each add."""
    before, after = [], []
    async with Muskox(url) as ox:
        queue = ox.queue("bench")
        for index in range(samples):
            await asyncio.sleep(random.uniform(0.02, 0.1))
            before.append(time.perf_counter_ns())
            await queue.add("noop", {"index": index})
            after.append(time.perf_counter_ns())
    return {"before": before, "after": after}


def _used() -> float:
    """Seconds of processor time of this process so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
