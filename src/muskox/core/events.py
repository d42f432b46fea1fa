"""Facts about queues and jobs: one small class each, and their packing into records.

A store writes one record for all jobs that made the same move together; each
job in it has an offset of its own, so a reader can stop and go on anywhere.
An event tells what happened and cannot change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from muskox.core import codec
from muskox.core.errors import OptionError
from muskox.core.failure import Failure
from muskox.core.job import moment

__all__ = [
    "KINDS",
    "Active",
    "Blocked",
    "Cancelled",
    "Completed",
    "Delayed",
    "Drained",
    "Event",
    "Failed",
    "Held",
    "JobEvent",
    "Paused",
    "Progress",
    "QueueError",
    "Record",
    "Released",
    "Removed",
    "Resumed",
    "Retrying",
    "Stalled",
    "Trimmed",
    "Updated",
    "Waiting",
    "check_kind",
    "pack",
    "unfold",
]


class Event(msgspec.Struct, frozen=True):
    """A fact about a queue. `offset` grows along the store's whole log and is the cursor to go on from."""

    kind: ClassVar[str] = ""

    queue: str
    offset: int
    at_us: int

    @property
    def at(self) -> datetime:
        """When it happened, by the store's clock."""
        return moment(self.at_us)


class JobEvent(Event, frozen=True):
    """A fact about one job; `attempt` is the number of attempts begun so far."""

    job_id: str
    name: str
    attempt: int = 0


class Waiting(JobEvent, frozen=True):
    """The job can be claimed: it was added, became due, or was retried by hand."""

    kind: ClassVar[str] = "waiting"


class Delayed(JobEvent, frozen=True):
    """The job was added with a delay."""

    kind: ClassVar[str] = "delayed"


class Blocked(JobEvent, frozen=True):
    """The job waits behind others: of its key, or those that it depends on."""

    kind: ClassVar[str] = "blocked"


class Active(JobEvent, frozen=True):
    """A worker claimed the job."""

    kind: ClassVar[str] = "active"


class Progress(JobEvent, frozen=True):
    """A run told its progress: a number or any JSON."""

    kind: ClassVar[str] = "progress"

    value: Any = None


class Updated(JobEvent, frozen=True):
    """The data of the job was changed."""

    kind: ClassVar[str] = "updated"


class Completed(JobEvent, frozen=True):
    """The processor returned and the result is stored."""

    kind: ClassVar[str] = "completed"


class Retrying(JobEvent, frozen=True):
    """An attempt failed and another will follow in `delay` seconds."""

    kind: ClassVar[str] = "retrying"

    failure: Failure | None = None
    delay: float = 0.0


class Failed(JobEvent, frozen=True):
    """The job failed for good, after its last attempt or its last stall."""

    kind: ClassVar[str] = "failed"

    failure: Failure | None = None


class Stalled(JobEvent, frozen=True):
    """The lease of the active job ran out; it goes back, or fails if it stalled too often."""

    kind: ClassVar[str] = "stalled"

    stalls: int = 0


class Released(JobEvent, frozen=True):
    """The job was given back, by a stopping worker or for a limit elsewhere; the attempt is not counted."""

    kind: ClassVar[str] = "released"


class Cancelled(JobEvent, frozen=True):
    """The job was cancelled; if it was running, its run is told to stop."""

    kind: ClassVar[str] = "cancelled"


class Removed(JobEvent, frozen=True):
    """The job was removed by hand."""

    kind: ClassVar[str] = "removed"


class Paused(Event, frozen=True):
    """No job of the queue is claimed until it is resumed."""

    kind: ClassVar[str] = "paused"


class Resumed(Event, frozen=True):
    """Jobs of the queue are claimed again."""

    kind: ClassVar[str] = "resumed"


class Drained(Event, frozen=True):
    """The last waiting job of the queue was claimed; delayed, blocked and active ones may be left."""

    kind: ClassVar[str] = "drained"


class Held(Event, frozen=True):
    """Jobs with this name wait, and no live worker has a processor for it."""

    kind: ClassVar[str] = "held"

    name: str
    waiting: int = 0


class QueueError(Event, frozen=True):
    """Something failed around the jobs: a lost connection, a listener that raised."""

    kind: ClassVar[str] = "error"

    message: str


class Trimmed(Event, frozen=True):
    """Events up to `offset` were cleared before this reader saw them, or it had seen some that the store has lost."""

    kind: ClassVar[str] = "trimmed"


_CLASSES: tuple[type[Event], ...] = (
    Waiting, Delayed, Blocked, Active, Progress, Updated, Completed, Retrying, Failed, Stalled, Released,
    Cancelled, Removed, Paused, Resumed, Drained, Held, QueueError, Trimmed,
)  # fmt: skip
KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in _CLASSES}


class Record(msgspec.Struct, frozen=True):
    """What a store keeps: `size` facts of one kind, at offsets `first` to `first + size - 1`.

    `body` is a JSON array with one array of the class's own fields per fact.
    """

    first: int
    size: int
    queue: str
    kind: str
    at_us: int
    body: str


def check_kind(kind: str) -> str:
    """Return `kind`, or raise `OptionError` when there is no such event."""
    if kind not in KINDS:
        raise OptionError(f"there is no event {kind!r}; use one of {', '.join(sorted(KINDS))}")
    return kind


def pack(items: Sequence[Sequence[Any]]) -> str:
    """Write the body of a record: per fact the fields after `queue`, `offset` and `at_us`, in their order."""
    return msgspec.json.encode(items).decode()


def unfold(record: Record, *, after: int = 0) -> Iterable[Event]:
    """Give the facts of a record whose offsets are greater than `after`."""
    cls = KINDS[record.kind]
    for index, item in enumerate(codec.decode(record.body)):
        offset = record.first + index
        if offset > after:
            yield _revive(cls, record.queue, offset, record.at_us, item)


def _revive(cls: type[Event], queue: str, offset: int, at_us: int, item: list[Any]) -> Event:
    if cls is Failed or cls is Retrying:
        item[3] = msgspec.convert(item[3], Failure | None)
    return cls(queue, offset, at_us, *item)
