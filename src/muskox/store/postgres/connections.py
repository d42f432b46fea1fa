"""A few connections to one database, lent for one step each: bounded, waited for, and thrown away when in doubt.

A step that was cut off at its deadline, by a cancellation or by the network
has left its connection in an unknown state, so that connection is closed. What
the steps do is not known here.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors, generators, pq, waiting
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from muskox.core.errors import StoreError, StoreUnavailable, StoreUnsupported
from muskox.core.seam import World
from muskox.store.postgres.location import Location
from muskox.store.postgres.trouble import Remedy, remedy, translate

__all__ = ["Connection", "Connections", "ask", "connect", "pause"]

log = logging.getLogger("muskox.store")

TIMES = 5
"""How often a step is said in all when another transaction came between."""

UNUSED = 3.0
"""Seconds after which a connection that was not needed is closed, but for the last: others may need its place."""

LONGEST_PAUSE = 1.0
"""Seconds between two attempts to connect to a server that refuses, at most."""

T = TypeVar("T")


class Connection(psycopg.AsyncConnection[TupleRow]):
    """A driver's connection whose waits end at once when they are cancelled.

    The driver would ask the server to cancel and wait for its word, which a server that hangs never gives.
    """

    async def wait(self, gen: Any, interval: float = 1.0, timeout: float | None = None) -> Any:
        limit = {} if timeout is None else {"timeout": timeout}  # older drivers know none
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval, **limit)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


Step = Callable[[Connection], Awaitable[T]]


async def connect(conninfo: str, location: Location) -> Connection:
    """Open a connection on which each statement is a transaction; raises the driver's errors."""
    given = conninfo_to_dict(conninfo)
    usual: dict[str, Any] = {
        "client_encoding": "utf8",
        "fallback_application_name": "muskox",
        "connect_timeout": str(max(2, math.ceil(location.patience))),
        "keepalives_idle": "20",
        "keepalives_interval": "5",
        "keepalives_count": "3",
    }
    threshold = 2 if location.prepare else None
    return await Connection.connect("", autocommit=True, prepare_threshold=threshold, **{**usual, **given})


async def ask(connection: Connection, said: bytes, values: Sequence[bytes | None]) -> bytes | None:
    """Say a statement that answers one value, past the driver's cursors, which take longer than the statement does.

    Parameters are `$1` and so on; they and the answer are written out.
    """
    if any(value is not None and b"\0" in value for value in values):
        raise psycopg.DataError("text with a NUL, which ends it for libpq")
    connection.pgconn.send_query_params(said, values)
    [answer] = await connection.wait(generators.execute(connection.pgconn))
    if answer.status != pq.ExecStatus.TUPLES_OK:
        raise errors.error_from_result(answer)
    value: bytes | None = answer.get_value(0, 0)
    return value


async def pause(seconds: float) -> None:
    """Let real time pass, also in a world whose time stands still."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return


class Connections:
    """The connections of one event loop."""

    def __init__(self, location: Location, world: World, lost: Callable[[], None]) -> None:
        self._location = location
        self._world = world
        self._lost = lost
        self._room = asyncio.Semaphore(location.pool)
        self._door = asyncio.Lock()
        self._idle: list[Connection] = []
        self._least = 0
        self._trimming: Any = None
        self._freed = asyncio.Event()
        self._open = 0
        self._full = False
        self._refusals = 0
        self._in_a_row = 0
        self._refusal: psycopg.Error | None = None
        self._closed = False

    async def run(self, step: Step[T]) -> T:
        """Do a step on a connection of its own, within the patience that the URL gives.

        It must be one that may be said again: it is, once on a new connection when the one that lay here had died, and
        a few times when another transaction came between.
        """
        try:
            async with asyncio.timeout(self._location.patience), self._room:
                return await self._repeat(step)
        except TimeoutError as error:
            self.let_go()
            raise StoreUnavailable(
                f"PostgreSQL at {self._location.said} gave no answer within {self._location.patience:g} seconds; "
                "repeating it is safe"
            ) from error

    async def close(self) -> None:
        """Close what lies here; what is lent is closed when it comes back. Verbs that come later are refused."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop())
        if self._trimming is not None:
            self._trimming.cancel()

    def let_go(self) -> None:
        """Close what lies here: where one connection has died or gives no answer, the others will hardly do better."""
        while self._idle:
            self._drop(self._idle.pop())
        self._lost()

    async def _repeat(self, step: Step[T]) -> T:
        said = 0
        while True:
            said += 1
            connection, reused = await self._take()
            try:
                return await self._once(connection, step)
            except psycopg.Error as error:
                helps = remedy(error)
                if (helps is Remedy.AGAIN and said < TIMES) or (helps is Remedy.RECONNECT and reused):
                    log.debug("said again: %s", error)
                    continue
                told = translate(error, self._location)
                if isinstance(told, StoreUnsupported):
                    self.let_go()  # tables that are gone may come back with other numbers in them
                raise told from error

    async def _once(self, connection: Connection, step: Step[T]) -> T:
        try:
            answer = await step(connection)
        except (psycopg.Error, StoreError) as error:
            idle = not connection.closed and connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
            if idle and remedy(error) is not Remedy.RECONNECT:
                self._give_back(connection)
            else:
                self._drop(connection)
                self.let_go()
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._give_back(connection)
        return answer

    async def _take(self) -> tuple[Connection, bool]:
        """A connection, and whether it has been used before."""
        while True:
            while self._idle:
                connection = self._idle.pop()
                self._least = min(self._least, len(self._idle))
                if not connection.closed:
                    return connection, True
                self._open -= 1
            if self._closed:
                raise StoreUnavailable(f"the store on PostgreSQL at {self._location.said} is closed; open another")
            if self._full and self._open:
                # One of our own will be free sooner than one of somebody else's.
                self._full = False
                if await self._freed_within(LONGEST_PAUSE):
                    continue
            try:
                return await self._connect(), False
            except psycopg.Error as error:
                said = translate(error, self._location)
                if "no connection is left" not in str(said):
                    raise said from error
                self._full = True

    async def _freed_within(self, seconds: float) -> bool:
        """Wait for a connection to come back; whether one did."""
        self._freed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._freed.wait()
        except TimeoutError:
            return False
        return True

    async def _connect(self) -> Connection:
        """Open one more: one at a time, and slower and slower while the server refuses."""
        before = self._refusals
        async with self._door:
            if self._refusals != before and self._refusal is not None:
                raise self._refusal  # whoever was first has just been told
            if self._in_a_row:
                longest = min(LONGEST_PAUSE, 0.05 * 2 ** min(self._in_a_row, 6))
                await pause(longest * (0.5 + self._world.chance() / 2))
            try:
                connection = await connect(self._location.conninfo, self._location)
            except psycopg.Error as error:
                self._refusals += 1
                self._in_a_row += 1
                self._refusal = error
                self._lost()
                raise
            self._in_a_row = 0
            self._open += 1
            return connection

    def _give_back(self, connection: Connection) -> None:
        if self._closed:
            self._drop(connection)
            return
        self._idle.append(connection)
        self._freed.set()
        if len(self._idle) > 1 and self._trimming is None:
            self._trimming = self._world.spawn(self._trim(), name="muskox-postgres-trim")

    async def _trim(self) -> None:
        """Close what has lain here all the time, now and then and until one is left."""
        try:
            while len(self._idle) > 1:
                self._least = len(self._idle)
                await pause(UNUSED)
                # Those at the bottom have not been needed.
                for _ in range(min(self._least, len(self._idle) - 1)):
                    self._drop(self._idle.pop(0))
        finally:
            self._trimming = None

    def _drop(self, connection: Connection) -> None:
        # Not by the driver's close, which is polite and may wait.
        connection.pgconn.finish()
        self._open -= 1
        self._freed.set()
