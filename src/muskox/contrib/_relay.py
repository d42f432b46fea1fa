"""The relay of an outbox: carries jobs from rows to the store, and neither loses nor doubles any.

Two databases cannot commit together, so there is a moment in which jobs are in both. Therefore a note is added to the
store together with the jobs, in one step, that says which rows they are from. A turn goes so:

1. lock the outbox, so that no other relay reads the same rows
2. look for notes of turns that came to no end: their rows are in the store already, and are deleted
3. read rows, and add their jobs and a note of them
4. delete the rows, and commit
5. remove the note

Killed before 3, nothing has happened. Killed between 3 and 4, the rows are still there and so is the note: the next
turn adds none of them again, not even jobs that have run and been removed meanwhile. Killed after 4, the note tells of
rows that are no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from muskox import Job, Muskox, NewJob, OptionError
from muskox.contrib._tables import Tables, from_row

__all__ = ["BATCH", "QUEUE", "Relay"]

T = TypeVar("T")

log = logging.getLogger("muskox.outbox")

BATCH = 500
QUEUE = "muskox-outbox"
"""Where the notes are."""

_FOREVER = 10 * 365 * 86_400.0
_MOST_NOTES = 100
_MOST_BAD = 1000
_SKIPPING = frozenset({"mariadb", "mysql", "oracle", "postgresql"})
"""Databases that have FOR UPDATE SKIP LOCKED and READ COMMITTED; on others a relay waits for the lock instead."""

Row = tuple[int, str]
"""The number of a row and the id of its job. Both, since a number alone may be given anew in some databases."""


class _Awaiting:
    """The two databases as an asynchronous engine has it: both are waited for in the loop."""

    def __init__(self, ox: Muskox, connection: AsyncConnection) -> None:
        self._connection = connection
        self._notes = ox.queue(QUEUE)
        self.add = ox.add_many
        self.remove = self._notes.remove

    async def run(self, step: Callable[[sa.Connection], T]) -> T:
        return await self._connection.run_sync(step)

    async def notes(self, outbox: str) -> list[Job]:
        return (await self._notes.find("delayed", name=outbox, limit=_MOST_NOTES)).jobs


class _Blocking:
    """The same for a blocking engine. Nothing here is ever suspended, so that no loop is needed; see `_through`."""

    def __init__(self, ox: Muskox, connection: sa.Connection) -> None:
        self._ox = ox
        self._connection = connection
        self._notes = ox.queue(QUEUE).sync

    async def run(self, step: Callable[[sa.Connection], T]) -> T:
        return step(self._connection)

    async def add(self, jobs: Sequence[NewJob]) -> list[Job]:
        return self._ox.sync.add_many(jobs)

    async def remove(self, id: str) -> bool:
        return self._notes.remove(id)

    async def notes(self, outbox: str) -> list[Job]:
        return self._notes.find("delayed", name=outbox, limit=_MOST_NOTES).jobs


_Sides = _Awaiting | _Blocking


def _through(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that is never suspended to its end, here and now."""
    try:
        work.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise AssertionError("a blocking turn waits for nothing")


class Relay:
    """Carries the jobs of one outbox; `turn` may be called by any number of processes at once."""

    def __init__(self, ox: Muskox, engine: sa.Engine | AsyncEngine, tables: Tables) -> None:
        self._ox = ox
        self._engine = engine
        self._tables = tables
        self._outbox: str | None = None
        """The name of the outbox in the store, random and kept in its own table."""
        self._sure = False
        """Whether the turn before came to its end, so that no note of it is left."""
        self._bad: set[int] = set()

    async def turn(self) -> int:
        """Carry the oldest jobs that are committed; returns how many."""
        if isinstance(self._engine, AsyncEngine):
            async with self._engine.connect() as connection:
                return await self._turn(_Awaiting(self._ox, connection))
        # All of it in a thread, the store's part too: while it has the lock of a SQLite file it must depend on no
        # loop, in which the application may be waiting for that very lock.
        return await asyncio.to_thread(self.turn_here, self._engine)

    def turn_here(self, engine: sa.Engine) -> int:
        """`turn` in the caller's thread."""
        with engine.connect() as connection:
            return _through(self._turn(_Blocking(self._ox, connection)))

    async def _turn(self, sides: _Sides) -> int:
        await sides.run(self._isolate)
        if self._outbox is None:
            self._outbox = await sides.run(self._name)
        if self._sure and not await sides.run(self._has_rows):
            return 0
        self._sure = False
        done = await self._carry(sides, self._outbox)
        self._sure = done is not None
        return done or 0

    async def _carry(self, sides: _Sides, outbox: str) -> int | None:
        """None when another relay is at it."""
        if not await sides.run(self._lock):
            return None
        while notes := await sides.notes(outbox):
            await self._end(sides, notes)
            if not await sides.run(self._lock):
                return None
        rows, jobs = await sides.run(self._take)
        if not rows:
            return 0
        note = NewJob(self._ox.world.new_id(), QUEUE, outbox, msgspec.json.encode(rows).decode(), delay=_FOREVER)
        await sides.add([*jobs, note])
        await sides.run(partial(self._delete, rows))
        await sides.remove(note.id)
        return len(jobs)

    async def _end(self, sides: _Sides, notes: Sequence[Job]) -> None:
        """Do what was left to do in turns that came to no end."""
        for note in notes:
            rows = [(number, id) for number, id in note.data]
            log.info("a relay has ended in mid-turn; its %d jobs are in the store already", len(rows))
            await sides.run(partial(self._delete, rows))
            await sides.remove(note.id)

    # --- on the connection -----------------------------------------------------------

    def _isolate(self, connection: sa.Connection) -> None:
        """See that a turn is a transaction, and that what is read after the lock is what was committed before it."""
        if connection.dialect.name in _SKIPPING:
            connection.execution_options(isolation_level="READ COMMITTED")

    def _name(self, connection: sa.Connection) -> str:
        """The name of this outbox, made by the first relay that there is."""
        relay = self._tables.relay
        for _ in range(2):
            found = connection.execute(sa.select(relay.c.outbox)).scalar()
            if found is None:
                try:
                    connection.execute(sa.insert(relay).values(one=1, outbox=self._ox.world.new_id()))
                except IntegrityError:  # another relay was faster
                    connection.rollback()
                    continue
            connection.commit()
        name = connection.execute(sa.select(relay.c.outbox)).scalar_one()
        connection.rollback()
        return str(name)

    def _has_rows(self, connection: sa.Connection) -> bool:
        # Without the lock, so that an idle outbox costs the application nothing.
        found = connection.execute(self._rows().limit(1)).first()
        connection.rollback()
        return found is not None

    def _lock(self, connection: sa.Connection) -> bool:
        """Begin a transaction in which no other relay reads rows; False when one does."""
        relay = self._tables.relay
        if connection.dialect.name in _SKIPPING:
            locked = sa.select(relay.c.one).with_for_update(skip_locked=True)
            if connection.execute(locked).first() is not None:
                return True
            if connection.execute(sa.select(relay.c.one)).first() is None:
                self._outbox = None  # somebody has deleted the row; the next turn makes it anew
            return False
        # As good as BEGIN IMMEDIATE on SQLite, whatever it is that begins its transactions.
        connection.execute(sa.update(relay).values(one=relay.c.one))
        if connection.dialect.name == "sqlite" and not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
            raise OptionError(
                "the engine of the outbox commits every statement by itself, so that no lock holds; give the outbox "
                "one without isolation_level AUTOCOMMIT"
            )
        return True

    def _take(self, connection: sa.Connection) -> tuple[list[Row], list[NewJob]]:
        """Read the oldest rows. By all that are there, not by all after the last: a lower number may commit later."""
        now = self._ox.world.now()
        rows, jobs = [], []
        for number, id, body in connection.execute(self._rows().limit(BATCH)):
            try:
                job = from_row(body, now)
            except (ValueError, TypeError) as error:
                self._set_aside(number, id, error)
                continue
            rows.append((number, id))
            jobs.append(job)
        return rows, jobs

    def _rows(self) -> sa.Select[Any]:
        jobs = self._tables.jobs
        rows = sa.select(jobs.c.id, jobs.c.job, jobs.c.body).order_by(jobs.c.id)
        return rows.where(jobs.c.id.not_in(self._bad)) if self._bad else rows

    def _set_aside(self, number: int, id: str, error: Exception) -> None:
        # One damaged row must not hold up the others.
        log.error("row %d of the outbox, job %s, is damaged and stays there: %s", number, id, error)
        if len(self._bad) < _MOST_BAD:
            self._bad.add(number)

    def _delete(self, rows: Sequence[Row], connection: sa.Connection) -> None:
        jobs = self._tables.jobs
        there = connection.execute(sa.select(jobs.c.id, jobs.c.job).where(jobs.c.id.in_([row[0] for row in rows])))
        known = set(rows)
        numbers = [number for number, id in there if (number, id) in known]
        if numbers:
            connection.execute(sa.delete(jobs).where(jobs.c.id.in_(numbers)))
        connection.commit()
