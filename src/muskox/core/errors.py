"""The whole tree of exceptions that Muskox raises, and nothing that decides anything.

MuskoxError
├── OptionError            an option, name or setting is not allowed (also a ValueError)
├── DataError              data or a result that JSON cannot hold, or that is too large (also a ValueError)
├── DeclarationError       two processors for one name, a signature that cannot be filled from JSON
├── JobNotFound            no job with that id in that queue (also a KeyError)
├── NameTaken              there is a schedule of that name already
├── ScheduleNotFound       there is no schedule of that name (also a KeyError)
├── FlowNotFound           there is no flow or batch of that id (also a KeyError)
├── WrongState             the job is not in a state that allows the move
│   └── FlowClosed         a job cannot be added to a flow or batch that is closed
├── Duplicate              another job has the dedup key, and it was said to refuse a second
├── QueueFull              as many jobs wait as may, and there was no room in time
├── LeaseLost              the run may no longer speak for its job
├── ResultUnavailable      the awaited result will not come
│   ├── JobFailed          … because the job failed
│   ├── JobCancelled       … because it was cancelled or removed
│   └── ResultTimeout      … within the time that was given (also a TimeoutError)
├── FinalError             raised by a processor: this attempt failed and another would be useless
├── RateLimited            raised by a processor: a limit elsewhere was met, and this attempt does not count
└── StoreError             something between us and the database
    ├── StoreUnsupported   unknown scheme, too old a database, a network file system
    ├── StoreUnavailable   no answer, locked for long, connection lost; may heal by itself
    ├── StoreFull          no room to write
    ├── StoreReadOnly      the database may not be written
    └── StoreCorrupt       the database is damaged or is not one
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "DataError",
    "DeclarationError",
    "Duplicate",
    "FinalError",
    "FlowClosed",
    "FlowNotFound",
    "JobCancelled",
    "JobFailed",
    "JobNotFound",
    "LeaseLost",
    "MuskoxError",
    "NameTaken",
    "OptionError",
    "QueueFull",
    "RateLimited",
    "ResultTimeout",
    "ResultUnavailable",
    "ScheduleNotFound",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreUnavailable",
    "StoreUnsupported",
    "WrongState",
]

_LONGEST_HOLD = 366 * 86_400.0


class MuskoxError(Exception):
    """Catch this to catch everything that Muskox raises on purpose."""


class OptionError(MuskoxError, ValueError):
    """An option, a name or a setting is outside of what is allowed."""


class DataError(MuskoxError, ValueError):
    """Data or a result cannot be kept as JSON, or is larger than the limit."""


class DeclarationError(MuskoxError):
    """A processor, listener or processor class is declared in a way that cannot work."""


class JobNotFound(MuskoxError, KeyError):
    """The queue has no job with that id: never added, removed, or cleared by retention."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put the sentence in quotes.
        return str(self.args[0]) if self.args else ""


class NameTaken(MuskoxError):
    """There is a schedule of that name, and it was not said that it be replaced; nothing was changed."""


class ScheduleNotFound(MuskoxError, KeyError):
    """There is no schedule of that name: never added, or deleted."""

    def __str__(self) -> str:
        # As with JobNotFound.
        return str(self.args[0]) if self.args else ""


class WrongState(MuskoxError):
    """The job is in a state from which the asked move is not legal; nothing was changed."""


class FlowNotFound(MuskoxError, KeyError):
    """There is no flow or batch of that id: never added, or cleared some time after its end."""

    def __str__(self) -> str:
        # As with JobNotFound.
        return str(self.args[0]) if self.args else ""


class FlowClosed(WrongState):
    """A job was to be added to a flow or batch that takes no more; nothing was added."""


class Duplicate(MuskoxError):
    """Another job of the queue has the dedup key, and the add said to refuse a second one; nothing was added.

    `job_id` is the job that has it.
    """

    def __init__(self, queue: str, key: str, job_id: str) -> None:
        super().__init__(
            f"job {job_id} of queue {queue!r} has the dedup key {key!r} already, and nothing was added; "
            "then='existing' gives that job instead of this error"
        )
        self.queue = queue
        self.key = key
        self.job_id = job_id


class QueueFull(MuskoxError):
    """As many jobs wait in the queue as its `max_waiting` allows; nothing was added.

    `may_wait`: the queue says that who adds shall wait for room, so that saying it again may do.
    """

    def __init__(self, queue: str, most: int, waiting: int, wanted: int, *, may_wait: bool = False) -> None:
        super().__init__(
            f"queue {queue!r} holds {waiting} waiting jobs and takes {most} at most, so {wanted} more were refused and "
            "nothing was added; add fewer, let more workers run, or raise max_waiting"
        )
        self.queue = queue
        self.most = most
        self.waiting = waiting
        self.wanted = wanted
        self.may_wait = may_wait


class LeaseLost(MuskoxError):
    """The run may no longer speak for its job: cancelled, removed, or given to another worker."""


class ResultUnavailable(MuskoxError):
    """The result that was awaited will not come; see the subclasses for why."""


class JobFailed(ResultUnavailable):
    """The awaited job has failed; the message carries its reason, and `failure` (a `Failure`) all of it."""

    def __init__(self, message: str, failure: object = None) -> None:
        super().__init__(message)
        self.failure = failure


class JobCancelled(ResultUnavailable):
    """The awaited job was cancelled or removed."""


class ResultTimeout(ResultUnavailable, TimeoutError):
    """The job did not end within the time given; it goes on."""


class FinalError(MuskoxError):
    """Raise it in a processor when another attempt would be useless: the job fails at once."""


class RateLimited(MuskoxError):
    """Raised by a processor when somebody else's limit was met: the job is given back and no attempt is counted.

    It is delayed by `retry_after` seconds; with `hold="queue"` or `hold="key"` nothing else of its queue or its key
    starts in that time either.
    """

    def __init__(self, message: str = "", *, retry_after: float, hold: Literal["job", "key", "queue"] = "job") -> None:
        if not isinstance(retry_after, int | float) or not 0 <= retry_after <= _LONGEST_HOLD:
            raise OptionError(f"retry_after must be between 0 and {_LONGEST_HOLD:.0f} seconds, not {retry_after!r}")
        if hold not in ("job", "key", "queue"):
            raise OptionError(f"hold must be 'job', 'key' or 'queue', not {hold!r}")
        super().__init__(message or f"a limit was met; to be tried again in {retry_after} s")
        self.retry_after = float(retry_after)
        self.hold = hold


class StoreError(MuskoxError):
    """The database could not do what was asked."""


class StoreUnsupported(StoreError):
    """This database, version, file system or URL cannot be used."""


class StoreUnavailable(StoreError):
    """The database gives no answer or is locked for long; repeating with the same ids is safe."""


class StoreFull(StoreError):
    """The database has no room left; nothing of the call was written."""


class StoreReadOnly(StoreError):
    """The database may be read but not written; nothing of the call was written."""


class StoreCorrupt(StoreError):
    """The database is damaged, or the file is not a database."""
