"""The small duties that every worker does for the whole cluster: promote, recover, clear.

Each is safe to be done by any number of workers at once, since the store moves
a job only once; so there is no leader.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from muskox.core.job import Retention
from muskox.core.seam import World
from muskox.store.protocol import Recovered, Store

__all__ = ["Clear", "Promote", "Recover"]

log = logging.getLogger("muskox.worker")

BATCH = 1000


class Promote:
    """Lets due jobs wait, at most a fifth of a second late."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def turn(self) -> float:
        return 0.0 if await self._store.promote(limit=BATCH) == BATCH else 0.2


class Recover:
    """Takes back jobs whose lease ran out. `recovered` is told of each batch."""

    def __init__(
        self, store: Store, world: World, lease: float, recovered: Callable[[Sequence[Recovered]], None]
    ) -> None:
        self._store = store
        self._world = world
        self._lease = lease
        self._beat = min(1.0, lease / 3)
        self._recovered = recovered
        self._waited = False
        self._clocks = world.now(), world.monotonic()

    async def turn(self) -> float:
        if self._jumped() and not self._waited:
            # All leases look over at once. Live workers renew theirs within a beat; the dead ones can wait for that,
            # but only once: a worker that is always late must recover them all the same.
            self._waited = True
            log.warning("the clock jumped, or this process was frozen: recovery waits for leases to be renewed")
            return 3 * self._beat
        self._waited = False
        found = await self._store.recover(limit=BATCH)
        if found:
            self._recovered(found)
        return 0.0 if len(found) == BATCH else self._beat * (0.75 + self._world.chance() / 2)

    def _jumped(self) -> bool:
        before, self._clocks = self._clocks, (self._world.now(), self._world.monotonic())
        wall, steady = (new - old for new, old in zip(self._clocks, before, strict=True))
        return wall - steady > 2.0 or steady > max(2.0 * self._beat, self._lease / 2)


class Clear:
    """Deletes what has ended long ago."""

    def __init__(self, store: Store, world: World, rules: Callable[[], Mapping[str, Retention]]) -> None:
        self._store = store
        self._world = world
        self._rules = rules
        self._first = True

    async def turn(self) -> float:
        if self._first:
            self._first = False  # workers that start together need not clear together
            return 5.0 * self._world.chance()
        return 0.05 if await self._store.clear(self._rules(), limit=BATCH) >= BATCH else 5.0
