"""Hears what happens outside of this worker, for listeners that want to know.

Facts about runs are heard where the run was. These others are read from the
store's log, by every worker program that has a listener for them.
"""

from __future__ import annotations

from collections.abc import Callable

from muskox.core.events import Event
from muskox.runtime.registry import Registry
from muskox.store.protocol import Store

__all__ = ["OUTSIDE", "Follower", "follows"]

OUTSIDE = frozenset(
    {"waiting", "delayed", "blocked", "progress", "updated", "cancelled", "removed", "paused", "resumed", "drained"}
)
"""The kinds of event that do not come from a run of this worker, or not only."""

POLL = 1.0


def follows(registry: Registry) -> bool:
    """Whether a listener wants any of these."""
    return not registry.heard().isdisjoint(OUTSIDE)


class Follower:
    """A duty: each turn waits for events of other origin and tells them."""

    def __init__(self, store: Store, registry: Registry, hear: Callable[[Event], None]) -> None:
        self._store = store
        self._kinds = registry.heard() & OUTSIDE
        self._hear = hear
        self._after = 0

    async def begin(self) -> None:
        """Follow from now on."""
        [latest] = await self._store.events(after=-1)
        self._after = latest.offset

    async def turn(self) -> float:
        for event in await self._store.events(after=self._after, seconds=POLL):
            self._after = event.offset
            if event.kind in self._kinds:
                self._hear(event)
        return 0.0
