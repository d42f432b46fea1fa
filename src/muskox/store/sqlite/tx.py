"""What a step sees of its transaction: the connection, the store's clock, fences, events and figures.

It opens and closes no transaction; whoever does calls `begin` and `write`.
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

SQL: dict[str, str] = {}
for file in ("statements.sql", "looks.sql", "flows.sql", "keys.sql", "history.sql"):
    SQL |= statements("muskox.store.sqlite", file)

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
_ADDED = len(STATE)
"""Behind the states it is counted how many jobs were ever added."""
_RECORDS = 20
"""Records of events in one statement; the driver remembers one statement for each number of them."""
_SET_BACK = 60_000_000
"""A clock that is behind the store's by more than these microseconds was set back on purpose."""


class Again(Exception):
    """Raised by a step that has thought better of it: undo the transaction and run its steps anew."""


class Tx:
    """One transaction in its making; good for one `begin`."""

    __slots__ = (
        "_deltas",
        "_read",
        "_records",
        "_world",
        "behind",
        "bounded",
        "db",
        "event",
        "known",
        "met",
        "now",
        "token",
        "told",
        "told_to",
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
        self.token = self.event = self.turn = self.now = self.told_to = 0
        """`told_to`: the row up to which jobs are told of and counted; see `adding.py`."""
        self.behind = False
        """Whether there are jobs of which was not told when the transaction began."""
        self.bounded = False
        """Whether there are queues that bound how many jobs wait in them."""
        self.woken: set[str] = set()
        """The queues in which jobs began to wait."""
        self.told = False
        """Whether there are new events, or jobs of which will be told."""

    def begin(self, *, locked: bool = True) -> None:
        """Read fence, clock and event offset; on a connection that has no write lock yet, take it."""
        now = int(self._world.now() * 1_000_000)
        found = self.one("read_meta") if locked else self.one("lock_meta", {"now": now})
        clock = self._understand(found or ())
        if clock - now > _SET_BACK:
            for name in ("shift_leases", "shift_limits", "shift_keys"):
                self.execute(name, {"jump": clock - now})
            clock, self._read = now, ()
        self.now = max(now, clock)

    def look(self) -> None:
        """Begin a transaction that only reads."""
        clock = self._understand(self.one("read_meta") or ())
        now = int(self._world.now() * 1_000_000)
        self.now = now if clock - now > _SET_BACK else max(now, clock)

    def _understand(self, found: tuple[Any, ...]) -> int:
        """Take over what was read; returns the latest moment that was given."""
        self.token, clock, self.event, self.turn, self.told_to, latest, added, bounded = self._read = found
        self.bounded = bool(bounded)
        self.behind = (latest or 0) > self.told_to
        self.told_to = min(self.told_to, latest or 0)  # the number of a deleted row is given again
        return max(clock, added) if self.behind else int(clock)

    def write(self) -> None:
        """Write what the steps so far have told, used up and counted; at the end, and before it is looked at."""
        for first in range(0, len(self._records), _RECORDS):
            records = self._records[first : first + _RECORDS]
            others = ", (?, ?, ?, ?, ?, ?)" * (len(records) - 1)
            self.db.execute(SQL["add_events"] + others, [*chain.from_iterable(records)])
        self._records.clear()
        for lane, changes in self._deltas.items():
            if any(changes):
                self.db.execute(SQL["count"], (*changes, lane))
        self._deltas.clear()
        if self.changed:
            self._read = self.token, self.now, self.event, self.turn, self.told_to
            self.execute("write_meta", self._read[:4])

    @property
    def changed(self) -> bool:
        """Whether what was read or written last is no longer so."""
        known = self._read[:1] + self._read[2:5]
        return known != (self.token, self.event, self.turn, self.told_to)

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

    def tell(self, queue: int, kind: str, items: Sequence[Sequence[Any]], *, at: int | None = None) -> None:
        """Append one record of facts of a kind, of now or of `at`; see `core.events.pack` for the items."""
        if items:
            self.tell_packed(queue, kind, len(items), pack(items), at=at)

    def tell_packed(self, queue: int, kind: str, size: int, body: str, *, at: int | None = None) -> None:
        """`tell` for facts that were packed before."""
        self._records.append((self.event, size, queue, kind, self.now if at is None else at, body))
        self.event += size
        self.told = True

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
        changes = self._deltas.setdefault(lane, [0] * (len(STATE) + 1))
        if source is not None:
            changes[source] -= jobs
        else:
            changes[_ADDED] += jobs
        if target is not None:
            changes[target] += jobs
