"""Claims, and waiting for something to claim.

A claim that left jobs because of a rate or a hold has told when they may go on,
and whoever waits for their queue is woken then. Which jobs a claim takes is
decided in the database.
"""

from __future__ import annotations

from collections.abc import Sequence

from muskox.core.job import Job
from muskox.core.seam import World
from muskox.store.postgres import rows
from muskox.store.postgres.bells import EVENTS
from muskox.store.postgres.location import Location
from muskox.store.postgres.verbs import Row, Verbs
from muskox.store.protocol import Want

__all__ = ["Claiming"]


class Claiming(Verbs):
    """Moves jobs to active; a part of the store."""

    def __init__(self, location: Location, world: World) -> None:
        super().__init__(location, world)
        self._later: dict[str, float] = {}
        """By queue the moment at which more of it may be claimed, where the latest claim told one."""

    async def claim(
        self, wants: Sequence[Want], *, limit: int, worker: str, lease: float, ticket: str = ""
    ) -> list[Job]:
        asked = rows.asked(wants)
        if limit < 1 or not asked:
            return []
        values = (
            self._now(), self._levels.claim, rows.texts(queue for queue, _, _ in asked),
            rows.texts(name for _, name, _ in asked), rows.ints(stalls for _, _, stalls in asked), limit, worker,
            int(lease * 1_000_000), ticket,
        )  # fmt: skip
        found = await self._all("claim", values)
        if self._later or (found and found[-1][2] is None):
            found = self._note(wants, found)
        if not found:
            return []
        if any(row[2] not in self._names for row in found):
            self._remember(await self._all("lanes"))
        if found[0][1]:
            self._bells.ring([EVENTS])
        return [rows.claimed(row, *self._names[row[2]], worker) for row in found]

    def _note(self, wants: Sequence[Want], found: Sequence[Row]) -> list[Row]:
        """Remember when more may be claimed of the queues, by the rows without a lane; returns the others."""
        for want in wants:
            self._later.pop(want.queue, None)
        now = self._world.monotonic()
        for row in found:
            if row[2] is None:
                self._later[row[12]] = now + row[0] / 1e6
        return [row for row in found if row[2] is not None]

    async def wait(self, queues: Sequence[str], *, seconds: float) -> None:
        bell = self._bells.bell(queues)
        try:
            if await self._bells.expect(queues):
                if self._later:
                    now = self._world.monotonic()
                    seconds = min(seconds, *(self._later.get(queue, now + seconds) - now for queue in queues))
                await bell.wait(seconds if self._bells.hearing else min(seconds, self._bells.poll))
        finally:
            self._bells.drop(bell)
