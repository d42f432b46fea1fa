"""What all verbs need: say a statement, know the moment and the numbers of lanes, ring for those who wait.

What is said, and what becomes of the answers, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muskox.core.job import Job, NewJob
from muskox.core.seam import World
from muskox.store.postgres import rows
from muskox.store.postgres.adding import Lane
from muskox.store.postgres.bells import Bells
from muskox.store.postgres.connections import Connection, Connections
from muskox.store.postgres.levels import Levels
from muskox.store.postgres.location import Location
from muskox.store.postgres.schema import Schema

__all__ = ["Row", "Verbs"]

Row = tuple[Any, ...]


class Verbs:
    """The ground on which the verbs of a store stand."""

    def __init__(self, location: Location, world: World) -> None:
        self._world = world
        self._schema = Schema(location)
        self._levels = Levels.of(location.durability)
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._names: dict[int, tuple[str, str]] = {}
        self._connections = Connections(location, world, self._forget)
        self._bells = Bells(location, self._schema, self._connections, world)

    def _now(self) -> int | None:
        """The moment in a world of its own; None leaves it to the server."""
        return int(self._world.now() * 1_000_000) if self._world.simulated else None

    async def _all(self, name: str, values: Row = ()) -> list[Row]:
        said = self._schema[name]

        async def step(db: Connection) -> list[Row]:
            return await (await db.execute(said, values)).fetchall()

        return await self._connections.run(step)

    async def _one(self, name: str, values: Row) -> Row:
        return (await self._all(name, values))[0]

    async def _there(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Job]:
        """Those of the jobs that are there, by queue and id."""
        if not wanted:
            return {}
        values = rows.texts(queue for queue, _ in wanted), rows.texts(id for _, id in wanted)
        return {(job.queue, job.id): job for job in map(rows.full, await self._all("get_by_queue", values))}

    async def _stored(self, jobs: Sequence[NewJob] | Sequence[Job]) -> dict[tuple[str, str], Job] | None:
        """The jobs that are there under those queues and ids; None when one is not."""
        wanted = {(job.queue, job.id) for job in jobs}
        found = await self._there(list(wanted))
        return found if len(found) == len(wanted) else None

    async def _learn(self, lanes: set[tuple[str, str]]) -> Mapping[tuple[str, str], Lane]:
        """The numbers of these lanes and of others, which are made if there are none. Lanes are never deleted."""
        while missing := sorted(lanes - self._lanes.keys()):
            values = rows.texts(queue for queue, _ in missing), rows.texts(name for _, name in missing)
            self._remember(await self._all("find_lanes", values))
        return self._lanes

    def _remember(self, lanes: Sequence[Row]) -> None:
        for queue, name, number, lane in lanes:
            self._lanes[queue, name] = number, lane
            self._names[lane] = queue, name

    def _forget(self) -> None:
        """A server that was lost may come back from a backup, in which other lanes have these numbers."""
        # Not cleared: a verb that is being said goes on with what it has.
        self._lanes = {}
        self._names = {}
