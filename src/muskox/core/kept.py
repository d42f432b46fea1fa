"""A schedule as a store keeps it, and the ledger of its moments. Records only: what is due is said in `schedule.py`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from muskox.core.job import moment
from muskox.core.schedule import Schedule, Told

__all__ = ["Entry", "Kept"]


class Kept(msgspec.Struct, frozen=True):
    """A schedule and where it stands; moments are microseconds since 1970 by the store's clock.

    `generation` grows when what the schedule says is changed, `version` with every change and every firing.
    `last_us` is the moment that fired last, `last_job` the id of the job that was added last, in the schedule's queue.
    """

    schedule: Schedule
    generation: int = 1
    version: int = 0
    paused: bool = False
    next_us: int | None = None
    last_us: int | None = None
    last_job: str | None = None
    added_us: int = 0
    changed_us: int = 0


class Entry(msgspec.Struct, frozen=True):
    """What became of a moment, or of `missed` moments up to it. `at_us` is when that was written, set by the store."""

    moment_us: int
    told: Told
    job_id: str | None = None
    reason: str = ""
    missed: int = 0
    at_us: int = 0

    @property
    def moment(self) -> datetime:
        """The moment that is told of."""
        return moment(self.moment_us)

    @property
    def at(self) -> datetime:
        """When that was written."""
        return moment(self.at_us)
