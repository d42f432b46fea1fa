"""Calls the functions that are declared `per_process`: in every worker process, at their moments, without a job.

Nothing of it is stored: a process that was not there has missed its moments,
and by whom a moment was met is nobody's concern.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from muskox.core.schedule import Overlap
from muskox.core.seam import World
from muskox.runtime.registry import Beside

__all__ = ["Companion"]

log = logging.getLogger("muskox.scheduler")

LONGEST_REST = 60.0
"""Seconds after which the clock is looked at again, since it may have been set."""

PATIENCE = 2.0
"""Seconds that a cancelled call has to end, before it is left to itself."""


class Companion:
    """A duty for one such function. `failed` is told the queue and what was raised, in words."""

    def __init__(
        self,
        beside: Beside,
        world: World,
        call_in_thread: Callable[..., Awaitable[Any]],
        failed: Callable[[str, str], None],
    ) -> None:
        self._beside = beside
        self._world = world
        self._call_in_thread = call_in_thread
        self._failed = failed
        now_us = self._now()
        self._schedule = beside.intent.at(now_us)
        self._next = self._schedule.first_after(now_us)
        self._calls: set[Any] = set()
        self.closed = False

    async def turn(self) -> float | None:
        if self._next is None or self.closed:
            return None
        now_us = self._now()
        if now_us < self._next:
            return min(LONGEST_REST, (self._next - now_us) / 1_000_000)
        self._next = self._schedule.first_after(max(now_us, self._next))
        self._calls = {call for call in self._calls if not call.done()}
        if self._calls and self._schedule.overlap is not Overlap.ALLOW:
            log.info("schedule %s is skipped in this process: its last call has not ended", self._schedule.name)
        else:
            self._calls.add(self._world.spawn(self._call(), name="muskox-beside"))
        return 0.0

    async def close(self) -> None:
        """Cancel what still runs, and wait for the end of it, though not for long."""
        self.closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=PATIENCE)

    def _now(self) -> int:
        return int(self._world.now() * 1_000_000)

    async def _call(self) -> None:
        function, schedule = self._beside.function, self._schedule
        try:
            if schedule.jitter:
                await self._world.sleep(schedule.jitter * self._world.chance())
            if inspect.iscoroutinefunction(function):
                await function()
            else:
                await self._call_in_thread(function)
        except BaseException as error:
            if self.closed and isinstance(error, asyncio.CancelledError):
                raise
            log.exception("%s, called by schedule %s in this process, failed", self._beside.where, schedule.name)
            self._failed(schedule.queue, f"schedule {schedule.name} raised {type(error).__name__} in this process")
