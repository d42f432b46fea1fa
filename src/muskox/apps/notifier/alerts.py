"""Tells somebody when a job has failed for good.

It listens and changes nothing. What telling means is the caller's choice; left
out, it is a line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from muskox import Muskox

__all__ = ["Alert", "log_alert", "watch_failures"]

Alert = Callable[[str, str, str], Awaitable[None]]
"""Called with the queue, the job's name and its id."""

log = logging.getLogger("muskox.notifier")


async def log_alert(queue: str, name: str, job_id: str) -> None:
    """Write the failure into the log."""
    log.error("job %s (%s) in queue %s has failed; see GET /health/queue", job_id, name, queue)


def watch_failures(ox: Muskox, alert: Alert) -> None:
    """Call `alert` for each job of the program that fails after its last attempt."""

    @ox.on("failed")
    async def failed(event: Any) -> None:
        await alert(event.queue, event.name, event.job_id)
