"""What a step sees of its transaction: the connection, the store's clock, fences, events and figures.

It opens and closes no transaction; whoever does calls `begin` and `end`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from muskox.core.events import pack
from muskox.core.job import JobState
from muskox.core.seam import World
from muskox.store.sql import statements

__all__ = ["NUMBER", "STATE", "Again", "Lane", "Tx"]

SQL = statements("muskox.store.sqlite") | statements("muskox.store.sqlite", "looks.sql")

STATE: tuple[JobState, ...] = (
    JobState.WAITING,
    JobState.DELAYED,
    JobState.BLOCKED,
    JobState.ACTIVE,
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.CANCELLED,
)
"""States by their numbers in the tables."""

NUMBER: dict[JobState, int] = {state: number for number, state in enumerate(STATE)}

Lane = tuple[int, int]
"""The numbers of a queue and of its lane for a job name. Lanes are never deleted."""

_NONE: Mapping[tuple[str, str], Lane] = {}
_RECORDS = 20
"""Records of events in one statement; the driver remembers one statement for each number of them."""
_SET_BACK = 60_000_000
"""A clock that is behind the store's by more than these microseconds was set back on purpose."""


class Again(Exception):
    """Raised by a step that has thought better of it: undo the transaction and run its steps anew."""


class Tx:
    """One transaction in its making; good for one `begin` to `end`."""

    __slots__ = (
        "_deltas",
        "_read",
        "_records",
        "_world",
        "db",
        "event",
        "known",
        "met",
        "now",
        "token",
        "told",
        "turn",
        "woken",
    )

    def __init__(self, db: sqlite3.Connection, world: World, known: Mapping[tuple[str, str], Lane] = _NONE) -> None:
        self.db = db
        self._world = world
        self.known = known
        """Lanes by queue and name that are there for good, since they were read after a commit."""
        self.met: dict[tuple[str, str], Lane] = {}
        """Lanes that this transaction has found or made."""
        self._deltas: dict[int, list[int]] = {}
        self._read: tuple[Any, ...] = ()
        self._records: list[tuple[Any, ...]] = []
        self.token = self.event = self.turn = self.now = 0
        self.woken: set[str] = set()
        """The queues in which jobs began to wait."""
        self.told = False
        """Whether there are new events."""

    def begin(self, *, locked: bool = True) -> None:
        """Read fence, clock and event offset; on a connection that has no write lock yet, take it."""
        now = int(self._world.now() * 1_000_000)
        found = self.one("read_meta") if locked else self.one("lock_meta", {"now": now})
        self.token, clock, self.event, self.turn = self._read = found or ()
        if clock - now > _SET_BACK:
            self.execute("shift_leases", {"jump": clock - now})
            clock, self._read = now, ()
        self.now = max(now, clock)

    def look(self) -> None:
        """Begin a transaction that only reads."""
        self.token, clock, self.event, self.turn = self._read = self.one("read_meta") or ()
        now = int(self._world.now() * 1_000_000)
        self.now = now if clock - now > _SET_BACK else max(now, clock)

    def end(self) -> None:
        """Write what the steps have told, used up and counted."""
        self._write_events()
        self.write_counts()
        if self._read and (self.token, self.event, self.turn) == (self._read[0], self._read[2], self._read[3]):
            return
        self.execute("write_meta", {"token": self.token, "clock": self.now, "event": self.event, "turn": self.turn})

    def write_counts(self) -> None:
        """Bring the figures of the lanes up to date with what was counted so far."""
        for lane, changes in self._deltas.items():
            if any(changes):
                self.db.execute(SQL["count"], (*changes, lane))
        self._deltas.clear()

    def execute(self, name: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run the named statement."""
        return self.db.execute(SQL[name], values)

    def one(self, name: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self.db.execute(SQL[name], values).fetchone()
        return found

    def all(self, name: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.db.execute(SQL[name], values).fetchall()

    def take_tokens(self, count: int) -> int:
        """Take `count` fences and give the first.

        They follow the clock as well as each other: a store restored from a backup goes on above all that was
        ever given out, without an epoch to be looked after (docs/decisions/fences.md).
        """
        first = max(self.token + 1, self.now)
        self.token = first + count - 1
        return first

    def tell(self, queue: int, kind: str, items: Sequence[Sequence[Any]]) -> None:
        """Append one record of facts of a kind; see `core.events.pack` for the items."""
        if items:
            self.tell_packed(queue, kind, len(items), pack(items))

    def tell_packed(self, queue: int, kind: str, size: int, body: str) -> None:
        """`tell` for facts that were packed before."""
        self._records.append((self.event, size, queue, kind, self.now, body))
        self.event += size

    def _write_events(self) -> None:
        for first in range(0, len(self._records), _RECORDS):
            records = self._records[first : first + _RECORDS]
            others = ", (?, ?, ?, ?, ?, ?)" * (len(records) - 1)
            self.db.execute(SQL["add_events"] + others, [*chain.from_iterable(records)])
        self.told = bool(self._records)

    def waiting_in(self, queue: int) -> int:
        """How many jobs of a queue wait, the moves of this transaction included."""
        return sum(
            waiting + self._deltas.get(lane, [0])[0] for lane, waiting in self.all("waiting_in", {"queue": queue})
        )

    def delta(self, lane: int, state: int) -> int:
        """By how much the figure of a lane and state has changed in this transaction."""
        return self._deltas[lane][state] if lane in self._deltas else 0

    def count(self, lane: int, source: int | None, target: int | None, jobs: int = 1) -> None:
        """Keep the figures of a lane: so many jobs left one state for another; None is outside of the store."""
        changes = self._deltas.setdefault(lane, [0] * len(STATE))
        if source is not None:
            changes[source] -= jobs
        if target is not None:
            changes[target] += jobs
