"""Wakes those who wait for jobs or events, also when another process wrote them.

SQLite has no messages between processes, but a connection can ask at the cost
of some microseconds whether anybody else has committed (`PRAGMA data_version`).
One thread asks while somebody waits: when the log was written to, and now and
then. Wake-ups are hints and carry no data.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from muskox.core.errors import StoreError
from muskox.store.protocol import SCHEDULES
from muskox.store.sqlite import schedules
from muskox.store.sqlite.database import Location, connect
from muskox.store.sqlite.notices import Notices
from muskox.store.sqlite.tx import SQL

__all__ = ["Bell", "Hub"]

BEAT = 0.014
"""Seconds between two questions, where and while notices tell nothing. Some 1 % of a core."""
LONGEST = 0.25
"""The same where notices are given, for one that may be missed."""
SOON = (0.001, 0.003)
"""After a notice, which comes before its commit, the first questions."""
FOLLOWED = 70
"""So many questions follow a notice, about a second."""
SHORTEST = 0.005
"""After a change nothing is asked for so long, however many there are."""


class Bell:
    """Rings once, from any thread; heard from the moment it is made."""

    def __init__(self, hub: Hub, queues: frozenset[str] | None) -> None:
        self.queues = queues
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._time: asyncio.Timeout | None = None

    async def wait(self, seconds: float) -> None:
        """Return when it rings, at the latest after so many seconds; then it is used up."""
        try:
            async with asyncio.timeout(seconds) as self._time:
                await self._rung.wait()
        except TimeoutError:
            return
        finally:
            self._hub.drop(self)

    def ring_in(self, seconds: float) -> None:
        """Let the waiting end in so many seconds at the latest; heard from the moment at which it has begun."""
        try:
            self._loop.call_soon_threadsafe(self._shorten, self._loop.time() + seconds)
        except RuntimeError:  # as below
            return

    def _shorten(self, until: float) -> None:
        before = None if self._time is None or self._time.expired() else self._time.when()
        if self._time is not None and before is not None and until < before:
            self._time.reschedule(until)

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
        self._closing = threading.Lock()
        self._bells: set[Bell] = set()
        self._needed = threading.Event()
        self._stop = threading.Event()
        self._notices: Notices | None = None
        self._trusted = True
        self._left = FOLLOWED
        """How many looks still follow what was noticed last."""
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None
        self._put: int | None = None
        self._thread: threading.Thread | None = None

    def bell(self, queues: Sequence[str] | None = None) -> Bell:
        """A bell for jobs that begin to wait in the queues, or without queues for any event."""
        bell = Bell(self, None if queues is None else frozenset(queues))
        with self._lock:
            self._bells.add(bell)
            self._needed.set()
            if self._thread is None and self._location.path is not None and not self._stop.is_set():
                self._notices = Notices()
                self._thread = threading.Thread(
                    target=self._watch, args=[self._notices], name="muskox-sqlite-watch", daemon=True
                )
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

    def tell_in(self, queue: str, seconds: float) -> None:
        """`tell` those who wait for a queue in so many seconds; not those who begin to wait after this."""
        with self._lock:
            later = [bell for bell in self._bells if bell.queues is not None and queue in bell.queues]
        for bell in later:
            bell.ring_in(seconds)

    def close(self) -> None:
        """End the thread; those who still wait do so until their time is over."""
        with self._closing:
            self._stop.set()
            self._needed.set()
            if self._notices is not None and self._thread is not None:
                self._notices.wake()
                self._thread.join()
                # Not by the thread itself: it may end before it is woken.
                self._notices.close()
                self._notices = None

    def _watch(self, notices: Notices) -> None:
        try:
            while not self._stop.is_set():
                if not self._bells:
                    self._needed.wait()
                if self._look(notices):
                    # A change that no notice was given of shows that they cannot be trusted here.
                    self._trusted = self._trusted and (self._left > 0 or notices.wait(0.0))
                    self._stop.wait(SHORTEST)
                noticed = notices.wait(self._rest(trusted=self._trusted and notices.follows))
                self._left = FOLLOWED if noticed else max(0, self._left - 1)
        finally:
            if self._connection is not None:
                self._connection.close()

    def _rest(self, *, trusted: bool) -> float:
        """Seconds until the next look."""
        if self._left > FOLLOWED - len(SOON):
            return SOON[FOLLOWED - self._left]
        return BEAT if self._left or not trusted else LONGEST

    def _look(self, notices: Notices) -> bool:
        """Ring for what others have committed; whether there was anything."""
        try:
            if self._connection is None:
                self._connection = connect(self._location, writing=False)
            [latest] = self._connection.execute("PRAGMA data_version").fetchone()
            notices.follow(Path(f"{self._location.path}-wal"))
            if latest == self._version:
                return False
            self._version = latest
            rung = {name for (name,) in self._connection.execute(SQL["open_queues"])}
            [latest_put] = self._connection.execute(schedules.SQL["latest_put"]).fetchone()
            if latest_put != self._put:
                self._put = latest_put
                rung.add(SCHEDULES)
            self.tell(rung, events=True)
        except (sqlite3.Error, StoreError):  # only a hint: those who wait look for themselves now and then
            self._stop.wait(1.0)
            return False
        return True
