"""The one loop: turn, sleep, wake, stop.

Whatever a worker does again and again is a duty with a `turn` that says how
long to rest. What happens when the store gives no answer is the same for all
of them and stands here; what a turn does is not known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from muskox.core.errors import StoreError
from muskox.core.seam import World

__all__ = ["Alarm", "Duty", "Loop"]

log = logging.getLogger("muskox.worker")

LONGEST_REST = 5.0
"""Seconds between two attempts to reach a store that gives no answer, at most."""


class Duty(Protocol):
    """Something done again and again."""

    async def turn(self) -> float | None:
        """Do it once; give the seconds until the next turn, None to rest until woken."""
        ...


class Alarm:
    """Something to sleep on that can be rung; a ring before the sleep is not lost."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever sleeps, or the next one who wants to."""
        self._rung.set()

    async def sleep(self, seconds: float | None) -> None:
        """Return when rung, at the latest after so many seconds of the world's time."""
        if not self._rung.is_set():
            timer = None if seconds is None else self._world.spawn(self._ring_after(seconds), name="muskox-alarm")
            try:
                await self._rung.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        self._rung.clear()

    async def _ring_after(self, seconds: float) -> None:
        await self._world.sleep(seconds)
        self._rung.set()


class Loop:
    """Runs one duty until it is stopped, through failures of the store."""

    def __init__(self, duty: Duty, world: World, report: Callable[[StoreError], None]) -> None:
        self._duty = duty
        self._world = world
        self._report = report
        self._alarm = Alarm(world)
        self._stopped = False

    def wake(self) -> None:
        """Let the next turn begin now."""
        self._alarm.ring()

    def stop(self) -> None:
        """End after the turn that is being done."""
        self._stopped = True
        self._alarm.ring()

    async def run(self) -> None:
        """Do turns until `stop`; a failing store is reported and asked again, ever more rarely."""
        failures = 0
        while not self._stopped:
            try:
                rest = await self._duty.turn()
                failures = 0
            except StoreError as error:
                failures += 1
                self._report(error)
                # Spread, so that a store that comes back is not met by all workers at once.
                rest = min(LONGEST_REST, 0.1 * 2 ** min(failures, 10)) * (0.5 + self._world.chance() / 2)
                # A ring must not end this rest: work that waits would turn it into a busy loop.
                await self._world.sleep(rest)
                continue
            if rest is None or rest > 0:
                await self._alarm.sleep(rest)
