"""Adds and settles jobs inside the transaction of a caller, on the caller's connection.

The transaction stays the caller's: nothing here commits it. What must not be
held until the caller commits, new lanes and tables, is made on another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import tuple_row

from muskox.core.errors import MuskoxError, OptionError, StoreUnavailable
from muskox.core.flows import FlowJob, NewFlow
from muskox.core.job import Lease, NewJob
from muskox.core.life import Settlement
from muskox.core.seam import World
from muskox.core.twins import are_any, are_timed
from muskox.store.postgres import adding, dedup, lenders, rows, settling
from muskox.store.postgres.adding import Lane
from muskox.store.postgres.growing import Growing
from muskox.store.postgres.levels import Levels
from muskox.store.postgres.location import Location
from muskox.store.postgres.schema import Schema
from muskox.store.postgres.trouble import translate
from muskox.store.protocol import Added

__all__ = ["Inside", "Within"]

_Status = psycopg.pq.TransactionStatus

Row = tuple[Any, ...]


class Within:
    """Adds and settles on the connections of callers, from any thread and any event loop."""

    def __init__(self, location: Location, schema: Schema, world: World, channel: str, levels: Levels) -> None:
        self._location = location
        self._schema = schema
        self._world = world
        self._channel = channel
        self._levels = levels
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._identity: str | None = None
        self._learning = threading.Lock()

    def add_here(self, jobs: Sequence[NewJob], given: Any) -> list[Added]:
        """Add in the caller's thread, on a blocking connection."""
        found = lenders.find(given)
        if not jobs:
            return []
        data = adding.data_of(jobs)
        self._learn(adding.lanes_of(jobs))
        with self._translated(), _begun(found), found.transaction():
            self._check_identity(self._ask(found, "identity"))
            if are_any(jobs) or are_timed(jobs):
                its = dedup.Adding(jobs)
                wanted = its.understand(self._ask(found, "add_once", self._once(jobs, its))[0])
                return self._answers_once(its, self._ask(found, "get_by_queue", _keys(wanted)) if wanted else [])
            said, values = self._values(jobs, data)
            fresh, known = adding.read(jobs, self._ask(found, said, values))
            there = self._ask(found, "get_by_queue", self._wanted(jobs, known)) if known else []
            return self._answers(jobs, fresh, known, there)

    async def add(self, jobs: Sequence[NewJob], given: Any) -> list[Added]:
        """Add on an asynchronous connection of this loop, or as `add_here` on a blocking one."""
        if not lenders.is_asynchronous(given):
            return self.add_here(jobs, given)
        found = await lenders.find_async(given)
        if not jobs:
            return []
        data = adding.data_of(jobs)
        self._learn(adding.lanes_of(jobs))
        with self._translated():
            if found.info.transaction_status == _Status.IDLE:
                await found.execute("SELECT 1")
            async with found.transaction():
                self._check_identity(await self._ask_later(found, "identity"))
                if are_any(jobs) or are_timed(jobs):
                    its = dedup.Adding(jobs)
                    wanted = its.understand((await self._ask_later(found, "add_once", self._once(jobs, its)))[0])
                    stored = await self._ask_later(found, "get_by_queue", _keys(wanted)) if wanted else []
                    return self._answers_once(its, stored)
                said, values = self._values(jobs, data)
                fresh, known = adding.read(jobs, await self._ask_later(found, said, values))
                there = await self._ask_later(found, "get_by_queue", self._wanted(jobs, known)) if known else []
                return self._answers(jobs, fresh, known, there)

    def settle_here(self, settlements: Sequence[Settlement], given: Any) -> list[Lease]:
        """Settle in the caller's thread, on a blocking connection."""
        found = lenders.find(given)
        self._learn({(one.lease.queue, one.lease.name) for one in settlements})
        with self._translated(), _begun(found), found.transaction():
            self._check_identity(self._ask(found, "identity"))
            [(places, bells)] = self._ask(found, "settle", self._settling(settlements))
            self._ask(found, "ring", (self._channel, bells))
            return [settlements[place].lease for place in places]

    async def settle(self, settlements: Sequence[Settlement], given: Any) -> list[Lease]:
        """Settle on an asynchronous connection of this loop, or as `settle_here` on a blocking one."""
        if not lenders.is_asynchronous(given):
            return self.settle_here(settlements, given)
        found = await lenders.find_async(given)
        self._learn({(one.lease.queue, one.lease.name) for one in settlements})
        with self._translated():
            if found.info.transaction_status == _Status.IDLE:
                await found.execute("SELECT 1")
            async with found.transaction():
                self._check_identity(await self._ask_later(found, "identity"))
                [(places, bells)] = await self._ask_later(found, "settle", self._settling(settlements))
                await self._ask_later(found, "ring", (self._channel, bells))
                return [settlements[place].lease for place in places]

    def grow_here(self, its: Growing, given: Any) -> list[Added]:
        """Add to a flow in the caller's thread, on a blocking connection."""
        found = lenders.find(given)
        self._learn(its.lanes)
        with self._translated(its.refused), _begun(found), found.transaction():
            self._check_identity(self._ask(found, "identity"))
            [row] = self._ask(found, "grow", self._growing(its))
            known = its.known(row)
            return self._answers_grown(its, row, self._ask(found, "get_by_queue", _names(known)) if known else [])

    async def grow(self, its: Growing, given: Any) -> list[Added]:
        """Add to a flow on an asynchronous connection of this loop, or as `grow_here` on a blocking one."""
        if not lenders.is_asynchronous(given):
            return self.grow_here(its, given)
        found = await lenders.find_async(given)
        self._learn(its.lanes)
        with self._translated(its.refused):
            if found.info.transaction_status == _Status.IDLE:
                await found.execute("SELECT 1")
            async with found.transaction():
                self._check_identity(await self._ask_later(found, "identity"))
                [row] = await self._ask_later(found, "grow", self._growing(its))
                known = its.known(row)
                there = await self._ask_later(found, "get_by_queue", _names(known)) if known else []
                return self._answers_grown(its, row, there)

    def _growing(self, its: Growing) -> Row:
        now = int(self._world.now() * 1_000_000) if self._world.simulated else None
        return its.values(self._lanes, now=now, level=self._levels.add, within=self._channel)

    def _answers_grown(self, its: Growing, row: Row, there: list[Row]) -> list[Added]:
        stored = {(job.queue, job.id): job for job in map(rows.full, there)}
        if any((job.queue, job.id) not in stored for job in its.known(row)):
            raise StoreUnavailable("a job with that id is being removed at this moment; repeat the transaction")
        return its.answers(row, stored)

    def _settling(self, settlements: Sequence[Settlement]) -> Row:
        now = int(self._world.now() * 1_000_000) if self._world.simulated else None
        return now, self._levels.add, settling.items(settlements, self._lanes)

    # --- on the caller's connection ----------------------------------------------

    def _ask(self, connection: psycopg.Connection[Any], name: str, values: Row = ()) -> list[Row]:
        # A cursor of our own, whatever rows and cursors the caller has chosen.
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            return cursor.execute(self._schema[name], values, prepare=False).fetchall()

    async def _ask_later(self, connection: psycopg.AsyncConnection[Any], name: str, values: Row = ()) -> list[Row]:
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            return await (await cursor.execute(self._schema[name], values, prepare=False)).fetchall()

    def _values(self, jobs: Sequence[NewJob], data: str) -> tuple[str, Row]:
        now = int(self._world.now() * 1_000_000) if self._world.simulated else None
        return adding.step(jobs, data, self._lanes, now=now, level=self._levels.add, within=self._channel)

    def _once(self, jobs: Sequence[NewJob], its: dedup.Adding) -> Row:
        now = int(self._world.now() * 1_000_000) if self._world.simulated else None
        return now, self._levels.add, True, its.items(self._lanes), self._channel

    def _answers_once(self, its: dedup.Adding, there: list[Row]) -> list[Added]:
        found = its.answers({(job.queue, job.id): job for job in map(rows.full, there)})
        if found is None:
            raise StoreUnavailable("a job with that id is being removed at this moment; repeat the transaction")
        return found

    def _wanted(self, jobs: Sequence[NewJob], known: Sequence[int]) -> Row:
        wanted = {(jobs[place - 1].queue, jobs[place - 1].id) for place in known}
        return _keys(wanted)

    def _answers(
        self, jobs: Sequence[NewJob], fresh: list[Added], known: Sequence[int], there: list[Row]
    ) -> list[Added]:
        stored = {(job.queue, job.id): job for job in map(rows.full, there)}
        if any((jobs[place - 1].queue, jobs[place - 1].id) not in stored for place in known):
            raise StoreUnavailable("a job with that id is being removed at this moment; repeat the transaction")
        return adding.answers(jobs, fresh, known, stored)

    def _check_identity(self, found: list[Row]) -> None:
        if [(self._identity,)] != found:
            raise OptionError(
                f"within= is a connection to another database, but the jobs are kept in {self._location.said}, "
                f"schema {self._location.schema}; a transaction covers one database, so give one on the same"
            )

    @contextmanager
    def _translated(
        self, refused: Callable[[psycopg.Error], MuskoxError | None] = lambda error: None
    ) -> Iterator[None]:
        try:
            yield
        except (errors.UndefinedTable, errors.InvalidSchemaName) as error:
            raise OptionError(
                f"within= is a connection to a database without schema {self._location.schema}, but the jobs are kept "
                f"in {self._location.said}; a transaction covers one database, so give one on the same"
            ) from error
        except psycopg.Error as error:
            raise refused(error) or translate(error, self._location) from error

    # --- on a connection of our own ----------------------------------------------

    def _learn(self, lanes: set[tuple[str, str]]) -> None:
        """Know these lanes and who the store is; lanes and tables are made if there are none."""
        with self._learning:
            missing = sorted(lanes - self._lanes.keys())
            if not missing and self._identity is not None:
                return
            try:
                with psycopg.connect(self._location.conninfo, autocommit=True, prepare_threshold=None) as connection:
                    if self._identity is None and self._location.migrate:
                        self._schema.apply_here(connection)
                    [(self._identity,)] = self._ask(connection, "identity")
                    names = rows.texts(queue for queue, _ in missing), rows.texts(name for _, name in missing)
                    for queue, name, number, lane in self._ask(connection, "find_lanes", names):
                        self._lanes[queue, name] = number, lane
            except psycopg.Error as error:
                raise translate(error, self._location) from error


class Inside:
    """The verbs that are said on the connection of a caller, in the caller's thread."""

    _within: Within

    def add_within(self, jobs: Sequence[NewJob], connection: Any) -> list[Added]:
        return self._within.add_here(jobs, connection)

    def grow_within(self, flow: NewFlow, jobs: Sequence[FlowJob], connection: Any) -> list[Added]:
        return self._within.grow_here(Growing(flow, jobs), connection)

    def settle_within(self, settlements: Sequence[Settlement], connection: Any) -> list[Lease]:
        return self._within.settle_here(settlements, connection)


def _names(jobs: Iterable[NewJob]) -> Row:
    return _keys({(job.queue, job.id) for job in jobs})


def _keys(wanted: Collection[tuple[str, str]]) -> Row:
    return rows.texts(queue for queue, _ in wanted), rows.texts(id for _, id in wanted)


@contextmanager
def _begun(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Begin the caller's transaction if nothing was said in it yet; the driver would take ours for all of it."""
    if connection.info.transaction_status == _Status.IDLE:
        connection.execute("SELECT 1")
    yield
