"""A worker process that tells each run to the ledger: for work that is shared, and for work that goes on for long."""

from __future__ import annotations

import asyncio
import logging

from bench.ledger import Ledger, Mark
from muskox import ActiveJob, Fixed, Muskox, Retention

__all__ = ["ATTEMPTS", "QUEUE", "share", "work"]

QUEUE = "steady"
ATTEMPTS = 2


def work(url: str, ledger: str, process: int, concurrency: int, kept: int, fail_each: int) -> None:
    """Run jobs until a signal ends it; of `fail_each` jobs one fails in all its attempts.

    `kept` completed jobs are kept, and a tenth as many failed ones, so that the store reaches its size soon.
    """
    # A traceback for each failure is right in a program and too much here.
    logging.getLogger("muskox").setLevel(logging.CRITICAL)
    ox = Muskox(url)
    queue = ox.queue(QUEUE, retention=Retention(completed_most=kept, failed_most=kept // 10))
    book = Ledger(ledger, process)

    @queue.processor("step", attempts=ATTEMPTS, backoff=Fixed(0.2, jitter=0.5))
    async def step(job: ActiveJob, index: int) -> dict[str, int]:
        book.write(Mark.BEGUN, index, job.attempt, job.fence)
        await asyncio.sleep(0.002)
        if index % fail_each == 0:
            raise ConnectionError("the other side is down")
        book.write(Mark.ENDED, index, job.attempt, job.fence)
        return {"index": index}

    ox.run_worker(concurrency=concurrency)


def share(url: str, ledger: str, process: int, concurrency: int, pause: float) -> None:
    """Run jobs until a signal ends it; nothing is cleared meanwhile. `pause` is how long a run takes."""
    ox = Muskox(url)
    queue = ox.queue(QUEUE, retention=Retention(completed_most=10**9))
    book = Ledger(ledger, process)

    @queue.processor("step")
    async def step(job: ActiveJob, index: int) -> None:
        if pause:
            await asyncio.sleep(pause)
        book.write(Mark.ENDED, index, job.attempt, job.fence)

    ox.run_worker(concurrency=concurrency)
