"""Wakes those who wait for jobs or events, also when another process wrote them.

SQLite has no messages between processes, but a connection can ask at the cost
of some microseconds whether anybody else has committed (`PRAGMA data_version`).
One thread asks while somebody waits. Wake-ups are hints and carry no data.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence

from muskox.core.errors import StoreError
from muskox.store.protocol import SCHEDULES
from muskox.store.sqlite import schedules
from muskox.store.sqlite.database import Location, connect
from muskox.store.sqlite.tx import SQL

__all__ = ["Bell", "Hub"]

BEAT = 0.012
"""Seconds between two questions. About 1 % of a core while somebody waits, and nothing while nobody does."""


class Bell:
    """Rings once, from any thread; heard from the moment it is made."""

    def __init__(self, hub: Hub, queues: frozenset[str] | None) -> None:
        self.queues = queues
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, at the latest after so many seconds; then it is used up."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return
        finally:
            self._hub.drop(self)

    def ring(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:  # its loop has ended: nobody listens any more
            return


class Hub:
    """The bells of this process, and the thread that rings them for what others commit."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._bells: set[Bell] = set()
        self._needed = threading.Event()
        self._stop = threading.Event()
        self._nap = threading.Lock()
        """Held until the end: asking for it is the cheapest way to sleep."""
        self._nap.acquire()
        self._thread: threading.Thread | None = None

    def bell(self, queues: Sequence[str] | None = None) -> Bell:
        """A bell for jobs that begin to wait in the queues, or without queues for any event."""
        bell = Bell(self, None if queues is None else frozenset(queues))
        with self._lock:
            self._bells.add(bell)
            self._needed.set()
            if self._thread is None and self._location.path is not None:
                self._thread = threading.Thread(target=self._watch, name="muskox-sqlite-watch", daemon=True)
                self._thread.start()
        return bell

    def drop(self, bell: Bell) -> None:
        """Forget a bell."""
        with self._lock:
            self._bells.discard(bell)
            if not self._bells and not self._stop.is_set():
                self._needed.clear()

    def tell(self, queues: set[str], *, events: bool) -> None:
        """Ring for those who wait for one of the queues, and with `events` for those who wait for events."""
        with self._lock:
            rung = [bell for bell in self._bells if (events if bell.queues is None else bell.queues & queues)]
        for bell in rung:
            bell.ring()

    def close(self) -> None:
        """End the thread; those who still wait do so until their time is over."""
        if not self._stop.is_set():
            self._stop.set()
            self._needed.set()
            self._nap.release()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        connection: sqlite3.Connection | None = None
        version = put = None
        while not self._stop.is_set():
            if not self._bells:
                self._needed.wait()
            try:
                connection = connection or connect(self._location, writing=False)
                [latest] = connection.execute("PRAGMA data_version").fetchone()
                if latest != version:
                    version = latest
                    rung = {name for (name,) in connection.execute(SQL["open_queues"])}
                    [latest_put] = connection.execute(schedules.SQL["latest_put"]).fetchone()
                    if latest_put != put:
                        put = latest_put
                        rung.add(SCHEDULES)
                    self.tell(rung, events=True)
            except (sqlite3.Error, StoreError):  # only a hint: those who wait look for themselves now and then
                self._stop.wait(1.0)
            self._nap.acquire(timeout=BEAT)
        if connection is not None:
            connection.close()
