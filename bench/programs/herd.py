"""A worker process that is to be killed: it writes each begin and end of a run into the ledger."""

from __future__ import annotations

import asyncio
import logging

from bench.ledger import Ledger, Mark
from muskox import ActiveJob, Muskox, Retention

__all__ = ["QUEUE", "work"]

QUEUE = "herd"
ATTEMPTS = 3
MAX_STALLS = 50
"""So many that no job fails because the worker under it was killed again and again."""


def work(url: str, ledger: str, process: int, concurrency: int, lease: float) -> None:
    """Run jobs until a signal ends it, or until it is killed."""
    # A line for each stalled job is right in a program and too much here.
    logging.getLogger("muskox.worker").setLevel(logging.ERROR)
    ox = Muskox(url)
    queue = ox.queue(QUEUE, retention=Retention(completed_most=10**9, failed_most=10**9))
    book = Ledger(ledger, process)

    @queue.processor("tread")
    async def tread(job: ActiveJob, index: int, pause: float) -> None:
        book.write(Mark.BEGUN, index, job.attempt, job.fence)
        await asyncio.sleep(pause)
        book.write(Mark.ENDED, index, job.attempt, job.fence)

    ox.run_worker(concurrency=concurrency, lease=lease)
