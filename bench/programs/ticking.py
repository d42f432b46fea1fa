"""A worker process that fires schedules, and runs their jobs, until it is killed."""

from __future__ import annotations

import logging

from muskox import Muskox, Retention

__all__ = ["QUEUE", "work"]

QUEUE = "ticking"


def work(url: str, process: int, schedules: int, interval: float) -> None:
    """Declare so many schedules with one interval, and run what they add; nothing is cleared meanwhile."""
    logging.getLogger("muskox").setLevel(logging.CRITICAL)
    ox = Muskox(url)
    ox.queue(QUEUE, retention=Retention(completed_most=10**9))

    async def beat() -> int:
        return process

    for number in range(schedules):
        ox.every(interval, queue=QUEUE, name=f"beat-{number}", catch_up=100)(beat)
    ox.run_worker(concurrency=10, lease=5.0)
