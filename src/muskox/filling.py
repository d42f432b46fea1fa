"""Adds jobs to queues that may be full, and waits for room where the queue says that who adds shall wait.

Whether there is room is the store's to say; here it is only asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from muskox.core.errors import OptionError, QueueFull
from muskox.core.job import NewJob, seconds
from muskox.core.seam import World
from muskox.store.protocol import Added, Store

__all__ = ["PATIENCE", "add_patiently"]

PATIENCE = 30.0
"""Seconds for which an add waits for room, unless it says how long."""

_FIRST, _LONGEST = 0.02, 1.0


async def add_patiently(store: Store, world: World, jobs: Sequence[NewJob], patience: float | timedelta) -> list[Added]:
    """Add jobs, again and again until there is room or `patience` seconds are over; then raises `QueueFull`."""
    wanted = seconds(patience, "patience")
    if wanted < 0:
        raise OptionError(f"patience must be 0 seconds or more, not {wanted!r}; 0 does not wait for room")
    until, rest = world.monotonic() + wanted, _FIRST
    while True:
        try:
            return await store.add(jobs)
        except QueueFull as full:
            left = until - world.monotonic()
            if not full.may_wait or full.wanted > full.most or left <= 0:
                raise
        # Many may be waiting: they are not to come all at once.
        await world.sleep(min(left, rest * (0.5 + world.chance())))
        rest = min(rest * 1.5, _LONGEST)
