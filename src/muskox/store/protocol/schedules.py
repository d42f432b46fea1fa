"""The verbs for schedules: a store keeps and compares; what is due, and when next, is said in `core/schedule.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from muskox.core.job import NewJob
from muskox.core.kept import Entry, Kept
from muskox.core.schedule import Overlap

__all__ = ["MOST_ENTRIES", "SCHEDULES", "WHY_SKIPPED", "Change", "Firing", "Looked", "ScheduleVerbs"]

SCHEDULES = "~schedules"
"""What to wait for, in place of a queue, to learn that a schedule was put; no queue can have this name."""

MOST_ENTRIES = 100
"""So many entries the ledger keeps of each schedule."""

WHY_SKIPPED = {Overlap.SKIP: "the last job had not ended", Overlap.QUEUE: "a job waited already"}
"""What the ledger says of a moment whose job was not added."""


class Looked(msgspec.Struct, frozen=True):
    """Schedules, the store's clock when they were read, and the nearest moment of those that were not asked for.

    `nearest_us` is the earliest moment after `now_us` of any schedule that is not paused; None when there is none.
    """

    now_us: int
    kept: list[Kept]
    nearest_us: int | None = None


class Change(msgspec.Struct, frozen=True):
    """What a schedule shall be from now on, provided that its version is still `version`; 0: that there is none.

    `kept` None deletes it. The store sets `version`, `added_us` and `changed_us` of what it keeps itself.
    """

    name: str
    version: int
    kept: Kept | None


class Firing(msgspec.Struct, frozen=True):
    """A due moment, or several, used up: the jobs to add, what the ledger shall say, and the next moment.

    Holds only while the schedule has `version`. `jobs` are in the order of their moments, each with the entry of
    the same job id in `entries`; entries without a job tell of moments that were missed. `last_us` None leaves the
    moment that fired last as it is.
    """

    name: str
    version: int
    next_us: int | None
    last_us: int | None
    jobs: tuple[NewJob, ...] = ()
    entries: tuple[Entry, ...] = ()


class ScheduleVerbs(Protocol):
    """Keeping and firing schedules; part of `Store`."""

    async def schedules(self, names: Sequence[str] = (), *, due: bool = False, limit: int = 1000) -> Looked:
        """Give schedules by their names, or all, in the order of their names, at most `limit`.

        With `due` only those that are not paused and whose next moment is not after the store's now, earliest
        first. Names that are not there are left out. Costs what it gives, not what there is.
        """
        ...

    async def put_schedules(self, changes: Sequence[Change]) -> list[bool]:
        """Put, replace or delete schedules, each for itself, where the version is still the one that was seen.

        A version grows with every change and every firing, also over deleting and adding again. Returns which
        changes were made; one whose effect is there already, because it was said before, counts as made.
        Those who wait for `SCHEDULES` are woken. Deleting takes the ledger along, and leaves jobs alone.
        """
        ...

    async def fire(self, firings: Sequence[Firing]) -> list[int | None]:
        """Use up due moments, each firing in one step with adding its jobs; returns how many jobs each added.

        None where the version is another: somebody else has fired or changed it, and nothing at all was done.
        A job whose id is known adds nothing (it was added before). By the schedule's `overlap`, a job is not added
        while the last one has not ended (skip), or still waits (queue), and the entry that goes with it is kept as
        skipped with that reason and without the id. The ledger keeps the last 100 entries of each schedule.
        Events: those of `add`.
        """
        ...

    async def ledger(self, name: str, *, limit: int = 100) -> list[Entry]:
        """Give what became of the latest moments of a schedule, latest first."""
        ...
