"""Wakes those who wait for jobs or events, here and in other processes.

A notification holds a lock on the whole database until its commit, so there is
none per job: whoever waits says so in a table, a verb that sees it there has the
bell rung afterwards, by a statement of its own and once in ten milliseconds at
most. Bells are hints and carry no data; whoever hears none looks now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from muskox.core.errors import StoreError
from muskox.core.seam import World
from muskox.store.postgres.connections import Connection, Connections, connect, pause
from muskox.store.postgres.location import Location
from muskox.store.postgres.schema import Schema

__all__ = ["EVENTS", "POLL", "Bell", "Bells"]

log = logging.getLogger("muskox.store")

EVENTS = ""
"""The bell of all events; the others have the names of queues."""

GAP = 0.01
"""Seconds between two ringings of one process."""

AWAITED = 30.0
"""For how many seconds a wait is written down; it is renewed after a third of them."""

POLL = 1.0
"""Seconds after which those who wait look for themselves, whatever the hints say."""

DEAF_POLL = 0.1
"""The same while nothing can be heard."""

ECHO = 3.0
"""Seconds within which a notification of our own must come back, else the line is deaf."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts to hear something through a pooler, at most."""

CHECK = 20.0
"""Seconds after which a silent line is asked whether it is still there."""


class Bell:
    """Rings once; heard from the moment it is made."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, at the latest after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return

    def ring(self) -> None:
        self._rung.set()


class Bells:
    """The bells of one store object, the line on which others ring them, and the ringing of those of others."""

    def __init__(self, location: Location, schema: Schema, connections: Connections, world: World) -> None:
        self._location = location
        self._schema = schema
        self._connections = connections
        self._world = world
        self._me = world.secret(9).hex()
        self._channel = f"{location.schema}.bells"
        self._bells: set[Bell] = set()
        self._awaited: dict[str, float] = {}
        self._due: set[str] = set()
        self._ringing: Any = None
        self._line: Any = None
        self._echo = asyncio.Event()
        self.hearing = False
        """Whether notifications arrive."""
        self._closed = False
        self._warned = False

    @property
    def channel(self) -> str:
        """The channel of the notifications, whose payloads are names of bells."""
        return self._channel

    def bell(self, names: Iterable[str]) -> Bell:
        """A bell for any of the names."""
        bell = Bell(frozenset(names))
        self._bells.add(bell)
        if self._line is None and self._location.listen is not None and not self._closed:
            self._line = self._world.spawn(self._listen(self._location.listen), name="muskox-postgres-bells")
        return bell

    def drop(self, bell: Bell) -> None:
        """Forget a bell."""
        self._bells.discard(bell)

    @property
    def poll(self) -> float:
        """Seconds after which one should look for oneself."""
        return POLL if self.hearing else DEAF_POLL

    async def expect(self, names: Sequence[str]) -> bool:
        """Have others ring these bells for a while; returns whether they have been doing so already.

        If not, what happened before was not rung: look once more before waiting.
        """
        now = self._world.monotonic()
        if all(now - self._awaited.get(name, -AWAITED) < AWAITED / 3 for name in names):
            return True
        asked = self._schema["await"]

        async def ask(connection: Connection) -> bool:
            [(known,)] = await (await connection.execute(asked, (self._me, list(names), AWAITED))).fetchall()
            return bool(known)

        known = await self._connections.run(ask)
        self._awaited.update(dict.fromkeys(names, now))
        return known

    def ring(self, names: Sequence[str] | None) -> None:
        """Ring bells that somebody waits for: here at once, elsewhere soon."""
        if not names:
            return
        self._ring_here(names)
        self._due.update(names)
        if self._ringing is None and not self._closed:
            self._ringing = self._world.spawn(self._ring_elsewhere(), name="muskox-postgres-ring")

    async def close(self) -> None:
        """Ring what is still due, and end the line."""
        self._closed = True
        if self._ringing is not None:
            await self._ringing
        if self._line is not None:
            self._line.cancel()
            try:
                await self._line
            except asyncio.CancelledError:
                pass
        self._ring_here(None)

    def _ring_here(self, names: Iterable[str] | None) -> None:
        """Ring the bells of this object; None: all."""
        rung = [bell for bell in self._bells if names is None or not bell.names.isdisjoint(names)]
        for bell in rung:
            bell.ring()

    async def _ring_elsewhere(self) -> None:
        try:
            while self._due:
                names, self._due = sorted(self._due), set()
                await self._notify(names)
                if not self._closed:
                    await pause(GAP)
        finally:
            self._ringing = None

    async def _notify(self, names: Sequence[str]) -> None:
        said = self._schema["ring"]
        try:
            await self._connections.run(lambda connection: connection.execute(said, (self._channel, list(names))))
        except StoreError as error:  # only a hint: those who wait look for themselves now and then
            log.debug("a hint was lost: %s", error)

    # --- the line ----------------------------------------------------------------

    async def _listen(self, conninfo: str) -> None:
        """Hear notifications on a connection of its own; made anew, slower and slower, when it fails."""
        failures = 0
        while True:
            try:
                connection = await connect(conninfo, self._location)
                try:
                    await self._hear(connection)
                finally:
                    connection.pgconn.finish()
                if not self.hearing and not self._warned:
                    self._warned = True
                    log.warning(
                        "no notification comes back from PostgreSQL at %s, as through a pooler: looking every %g s "
                        "instead; give ?listen= a URL that goes to the server directly, or no",
                        self._location.said,
                        DEAF_POLL,
                    )
                failures = 0 if self.hearing else failures + 1
            except (psycopg.Error, OSError) as error:
                failures = 0 if self.hearing else failures + 1
                log.debug("nothing is heard from PostgreSQL: %s", error)
            finally:
                self.hearing = False
                # What was rung meanwhile was not heard.
                self._ring_here(None)
            longest = LONGEST_PAUSE if self._warned else 5.0
            await pause(min(longest, 0.2 * 2 ** min(failures, 10)) * (0.5 + self._world.chance()))

    async def _hear(self, connection: Connection) -> None:
        """Ring bells as they are told; returns when the line has gone silent for good."""
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        self._echo.clear()
        testing = self._world.spawn(self._test(), name="muskox-postgres-echo")
        try:
            while True:
                async for told in connection.notifies(timeout=ECHO if not self.hearing else CHECK):
                    self._take(told.payload)
                    if told.payload == f"?{self._me}":
                        break
                if not self._echo.is_set():
                    return
                if not self.hearing:
                    # Jobs may have been added between the last look and this moment.
                    self.hearing = True
                    self._ring_here(None)
                    continue
                async with asyncio.timeout(self._location.patience):
                    await connection.execute("SELECT 1")
        except TimeoutError:
            return
        finally:
            testing.cancel()

    async def _test(self) -> None:
        """Have a notification of our own sent on another connection: through a pooler none comes back."""
        await self._notify([f"?{self._me}"])

    def _take(self, name: str) -> None:
        if name == f"?{self._me}":
            self._echo.set()
        elif not name.startswith("?"):
            self._ring_here([name])
