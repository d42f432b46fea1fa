"""An outbox: jobs that are kept in your own tables until they are in the job store.

For stores that have no part in your transactions: a job is a row that is written together with your rows, and a relay
carries it over once that is committed. It runs no job. How the relay neither loses nor doubles any is in `_relay.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from muskox import Muskox, NewJob, OptionError, Queue, StoreError
from muskox.contrib._relay import BATCH, Relay
from muskox.contrib._tables import Tables, to_row

__all__ = ["Outbox", "SyncOutbox"]

log = logging.getLogger("muskox.outbox")

_MOST_REST = 30.0


class Outbox:
    """Jobs of `ox` that are kept in the tables of an application until they are relayed.

    `engine` is SQLAlchemy's, blocking or asynchronous, on the application's database: the relay uses it, and commits
    on it wake the relay. The tables, `name` and `name` + "_relay", join `metadata` for your migrations. Without a
    commit in this process, the relay looks every `poll` seconds.
    """

    def __init__(
        self,
        ox: Muskox,
        engine: sa.Engine | AsyncEngine,
        *,
        metadata: sa.MetaData | None = None,
        name: str = "muskox_outbox",
        poll: float = 1.0,
    ) -> None:
        if not isinstance(engine, sa.Engine | AsyncEngine):
            raise OptionError(f"engine must be SQLAlchemy's Engine or AsyncEngine, not {type(engine).__name__}")
        if not poll > 0:
            raise OptionError(f"poll must be more than 0 seconds, not {poll!r}")
        self.ox = ox
        self.engine = engine
        self.tables = Tables(metadata or sa.MetaData(), name)
        self.sync = SyncOutbox(self)
        """The same verbs for blocking code."""
        self._poll = poll
        self.relay_of = Relay(ox, engine, self.tables)
        self._bells: tuple[_Bell, ...] = ()  # never changed but replaced, since it is read from any thread
        self._listen()

    def __repr__(self) -> str:
        return f"<Outbox {self.tables.jobs.name}>"

    # --- add -----------------------------------------------------------------------

    async def add(self, tx: Any, queue: Queue, name: str, data: Any = None, **options: Any) -> NewJob:
        """Write a job into the outbox within `tx`; takes the options of `Queue.add` and checks them at once.

        `tx` is a connection or session of SQLAlchemy's, asynchronous or not, in a transaction that you commit. The
        job has its id from here on; it is stored some milliseconds after the commit, and never without it. Delays
        count from now.
        """
        [job] = await self.add_many(tx, [queue.new(name, data, **options)])
        return job

    async def add_many(self, tx: Any, jobs: Iterable[NewJob]) -> list[NewJob]:
        """Write jobs of any queues, made by their `new`, into the outbox within `tx`."""
        found = tx() if isinstance(tx, async_scoped_session) else tx
        if not isinstance(found, AsyncConnection | AsyncSession):
            return self.sync.add_many(tx, jobs)
        rows, new = self.to_rows(jobs)
        statement = sa.insert(self.tables.jobs)
        if isinstance(found, AsyncSession):
            found = await found.connection(bind_arguments={"clause": statement})
        if rows:
            await found.execute(statement, rows)
            self.mark(found.sync_connection)
        return new

    def to_rows(self, jobs: Iterable[NewJob]) -> tuple[list[dict[str, Any]], list[NewJob]]:
        """Make rows of jobs."""
        new = list(jobs)
        for job in new:
            if job.options.dedup is not None and job.options.dedup.then == "reject":
                raise OptionError(
                    f"job {job.id} says then='reject' of its dedup key, but what an outbox carries is stored when "
                    "nobody is there to be told; leave it out, and nothing is added where another has the key"
                )
        now = self.ox.world.now()
        return [to_row(job, now) for job in new], new

    async def create_tables(self) -> None:
        """Make the tables if they are not there, for programs without migrations."""
        if isinstance(self.engine, AsyncEngine):
            async with self.engine.begin() as connection:
                await connection.run_sync(self.tables.create)
        else:
            await asyncio.to_thread(self.sync.create_tables)

    # --- relay ---------------------------------------------------------------------

    async def relay(self) -> int:
        """Carry a batch of committed jobs, the oldest, to the store; returns how many.

        None while another relay of this outbox is at it. What it raises leaves all in order for the next turn:
        `StoreError` and its kin, SQLAlchemy's errors, `OptionError` where tables and jobs are in the same SQLite file.
        """
        self.check_apart()
        turn = self.ox.world.spawn(self.relay_of.turn(), name="muskox-outbox-turn")
        try:
            moved: int = await asyncio.shield(turn)
        except asyncio.CancelledError:
            # Its end is near, and a turn that is torn apart would leave work to the next.
            await asyncio.wait([turn])
            _tell(turn)
            raise
        return moved

    async def relay_forever(self) -> None:
        """Relay until cancelled; where a database is away it waits for it, and says so in the log."""
        failures = 0
        bell = _Bell()
        self._bells = (*self._bells, bell)
        try:
            while True:
                try:
                    moved = await self.relay()
                except (StoreError, SQLAlchemyError) as error:
                    failures += 1
                    log.warning("jobs cannot be relayed now, they stay in the outbox: %s", error)
                    await self._rest(bell, min(_MOST_REST, self._poll * 2**failures), wakeful=False)
                    continue
                failures = 0
                if moved < BATCH:
                    await self._rest(bell, self._poll, wakeful=True)
        finally:
            self._bells = tuple(other for other in self._bells if other is not bell)

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Relay beside the block: `async with outbox.relaying():` in the lifespan of a web application."""
        self.check_apart()
        task = self.ox.world.spawn(self.relay_forever(), name="muskox-outbox")
        task.add_done_callback(_tell)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def wake(self) -> None:
        """Have the relays of this process look now; from any thread. A hint, for commits that they can't hear of."""
        for bell in self._bells:
            bell.ring()

    async def _rest(self, bell: _Bell, seconds: float, *, wakeful: bool) -> None:
        await bell.wait(seconds * (0.5 + self.ox.world.chance()), wakeful=wakeful)

    def check_apart(self) -> None:
        """Raise when the relay would wait for itself: a SQLite file has one writer."""
        if self.engine.dialect.name != "sqlite" or not self.ox.url.startswith("sqlite:"):
            return
        theirs, ours = self.engine.url.database, sa.make_url(self.ox.url).database
        if theirs and ours and Path(theirs).resolve() == Path(ours).resolve():
            raise OptionError(
                f"the jobs are in the same file as the outbox, {theirs}; add them with within= there, without an outbox"
            )

    # --- hearing of commits -----------------------------------------------------------

    def mark(self, connection: Any) -> None:
        """Remember that the transaction of a connection has a job in it."""
        connection.info[self] = "written"

    def _listen(self) -> None:
        engine = self.engine.sync_engine if isinstance(self.engine, AsyncEngine) else self.engine
        sa.event.listen(engine, "commit", self._committing)
        sa.event.listen(engine, "rollback", lambda connection: connection.info.pop(self, None))
        sa.event.listen(engine, "checkin", self._given_back)

    def _committing(self, connection: sa.Connection) -> None:
        # Heard a moment before the commit; where the connection is given back after it, that is heard too.
        if self in connection.info:
            connection.info[self] = "committed"
            self.wake()

    def _given_back(self, _connection: Any, record: Any) -> None:
        if record.info.pop(self, None) == "committed":
            self.wake()


class SyncOutbox:
    """The verbs of an outbox for blocking code."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def add(self, tx: Any, queue: Queue, name: str, data: Any = None, **options: Any) -> NewJob:
        """Write a job into the outbox within `tx`; see `Outbox.add`."""
        [job] = self.add_many(tx, [queue.new(name, data, **options)])
        return job

    def add_many(self, tx: Any, jobs: Iterable[NewJob]) -> list[NewJob]:
        """Write jobs into the outbox within `tx`; see `Outbox.add_many`."""
        statement = sa.insert(self._outbox.tables.jobs)
        connection = _connection(tx, statement)
        rows, new = self._outbox.to_rows(jobs)
        if rows:
            connection.execute(statement, rows)
            self._outbox.mark(connection)
        return new

    def relay(self) -> int:
        """Carry a batch of committed jobs to the store; see `Outbox.relay`."""
        self._outbox.check_apart()
        return self._outbox.relay_of.turn_here(self._engine())

    def create_tables(self) -> None:
        """Make the tables if they are not there."""
        with self._engine().begin() as connection:
            self._outbox.tables.create(connection)

    def _engine(self) -> sa.Engine:
        if isinstance(self._outbox.engine, AsyncEngine):
            raise OptionError("the outbox has an asynchronous engine; use the async verb")
        return self._outbox.engine


def _tell(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the relay has ended; jobs stay in the outbox until the next", exc_info=task.exception())


def _connection(tx: Any, statement: sa.Insert) -> sa.Connection:
    found = tx() if isinstance(tx, scoped_session) else tx
    if isinstance(found, Session):
        return found.connection(bind_arguments={"clause": statement})
    if isinstance(found, sa.Connection):
        return found
    if isinstance(found, AsyncConnection | AsyncSession | async_scoped_session):
        raise OptionError(f"{type(tx).__name__} is asynchronous; give it to await outbox.add(…)")
    raise OptionError(f"an outbox takes a connection or session of SQLAlchemy, not {type(tx).__name__}")


class _Bell:
    """Wakes one relay in its loop, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:  # its loop has ended: nobody relays any more
            return

    async def wait(self, seconds: float, *, wakeful: bool) -> None:
        """Return after so many seconds, or, if `wakeful`, when it rings; what rang before counts."""
        try:
            async with asyncio.timeout(seconds):
                if wakeful:
                    await self._rung.wait()
                else:
                    await asyncio.Event().wait()
        except TimeoutError:
            pass
        self._rung.clear()
