"""Changes to many jobs at once: how far they are, and what became of them.

Kept in memory while they run and for a while after; what was done stays done,
so what was cut short is simply asked for again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from muskox import MuskoxError, World

__all__ = ["Left", "Operation", "Operations", "Work"]

log = logging.getLogger("muskox.web")

_MOST_KEPT = 100
_MOST_RUNNING = 8

Work = Callable[[], Awaitable[int]]
"""Makes the change and returns to how many jobs."""
Left = Callable[[], Awaitable[int]]
"""How many jobs are still as they were, by the figures of their queue."""


class Operation:
    """A change to about `most` jobs: running, done, failed or cancelled."""

    def __init__(self, id: str, verb: str, queue: str, most: int, left: Left) -> None:
        self.id = id
        self.verb = verb
        self.queue = queue
        self.most = most
        self.state = "running"
        self.reason = ""
        self._left = left
        self._changed = 0

    async def done(self) -> int:
        """How many jobs have been changed; about, while it runs, since others come and go meanwhile."""
        if self.state == "running":
            self._changed = max(self._changed, min(self.most, self.most - await self._left()))
        return self._changed

    async def run(self, work: Work) -> None:
        """Make the change."""
        try:
            self._changed = await work()
            self.state = "done"
        except MuskoxError as error:
            self.state, self.reason = "failed", str(error)
            log.warning("%s in queue %s broke off: %s", self.verb, self.queue, error)
        finally:
            if self.state == "running":
                self.state = "cancelled"


class Operations:
    """The operations of one dashboard process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: OrderedDict[str, Operation] = OrderedDict()
        self._running: dict[str, Any] = {}

    @property
    def busy(self) -> bool:
        """Whether no more may be begun for now."""
        return len(self._running) >= _MOST_RUNNING

    async def begin(self, verb: str, queue: str, most: int, work: Work, left: Left, *, patience: float) -> Operation:
        """Begin, wait at most `patience` seconds for the end, and tell how far it is."""
        operation = Operation(self._world.new_id(), verb, queue, most, left)
        self._kept[operation.id] = operation
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        task = self._world.spawn(operation.run(work), name=f"muskox dashboard {verb}")
        self._running[operation.id] = task
        task.add_done_callback(lambda _: self._running.pop(operation.id, None))
        await asyncio.wait([task], timeout=patience)
        return operation

    def find(self, id: str) -> Operation | None:
        """An operation that is not forgotten."""
        return self._kept.get(id)

    def latest(self) -> list[Operation]:
        """All that are not forgotten, latest first."""
        return [*self._kept.values()][::-1]

    async def stop(self) -> None:
        """Break off what runs."""
        running = [*self._running.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
