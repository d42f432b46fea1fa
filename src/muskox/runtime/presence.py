"""Says that a worker lives and what it can run, reports jobs that no live worker can, and adds to the past's figures.

A worker's record is for people and for that report; no lease depends on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from muskox.core.events import Held
from muskox.core.job import JobState
from muskox.runtime.figures import Figures, sample_of
from muskox.store.protocol import QueueCounts, Store, Want, WorkerRecord

__all__ = ["Presence"]

log = logging.getLogger("muskox.worker")

BEAT = 5.0


class Presence:
    """A duty: a beat, then a look at all figures. Each held name is reported once per outbreak."""

    def __init__(
        self, store: Store, record: Callable[[], WorkerRecord], hear: Callable[[Held], None], figures: Figures
    ) -> None:
        self._store = store
        self._record = record
        self._hear = hear
        self._figures = figures
        self._reported: set[tuple[str, str]] = set()
        self._left = False

    async def turn(self) -> float:
        if self._left:
            return BEAT
        await self._store.beat(self._record())
        counts = await self._store.counts()
        await self._report(counts)
        # Without an answer these are lost: it is better to count too little than the same work twice.
        await self._store.record(self._figures.take(), [sample_of(one) for one in counts])
        return BEAT

    async def leave(self) -> None:
        """Say good-bye."""
        self._left = True
        if sums := self._figures.take():
            await self._store.record(sums)
        await self._store.beat(self._record(), gone=True)

    async def _report(self, counts: Sequence[QueueCounts]) -> None:
        held = {}
        if any(figures.held for figures in counts):
            wants = [want for worker in await self._store.workers() for want in worker.wants]
            held = dict(_held(counts, wants))
        fresh = [Held(queue, 0, 0, name, n) for (queue, name), n in held.items() if (queue, name) not in self._reported]
        self._reported = set(held)
        for event in fresh:
            log.warning("%d jobs named %s in queue %s wait: no live worker has a processor for them",
                        event.waiting, event.name, event.queue)  # fmt: skip
            self._hear(event)
        if fresh:
            await self._store.publish(fresh)


def _held(counts: Sequence[QueueCounts], wants: Sequence[Want]) -> list[tuple[tuple[str, str], int]]:
    return [
        ((figures.queue, name.name), waiting)
        for figures in counts
        for name in figures.names
        if (waiting := name.states[JobState.WAITING])
        and not any(want.queue == figures.queue and (want.names is None or name.name in want.names) for want in wants)
    ]
