"""What a job is: the stored record, the request for a new one, and its options.

Records are frozen msgspec Structs rather than dataclasses because one is made
for every claimed job (see docs/decisions/records.md). Nothing here says
what may happen to a job; that is `life.py`.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from muskox.core import codec
from muskox.core.backoff import Backoff, Exponential, Fixed, Steps
from muskox.core.dedup import Dedup
from muskox.core.errors import OptionError
from muskox.core.failure import Failure

__all__ = [
    "DEFAULT_MAX_STALLS",
    "LONGEST_DELAY",
    "NO_OPTIONS",
    "PRIORITY_RANGE",
    "SETTLED",
    "Job",
    "JobState",
    "Lease",
    "NewJob",
    "Options",
    "Retention",
    "check_flow_id",
    "check_id",
    "check_job_name",
    "check_key",
    "check_parent_name",
    "check_queue_name",
    "check_step_name",
    "moment",
    "seconds",
]

DEFAULT_MAX_STALLS = 1
LONGEST_DELAY = 100 * 366 * 86_400.0
LONGEST_TRACE = 600
MOST_ATTEMPTS = 10_000
PRIORITY_RANGE = 2**31 - 1


class JobState(StrEnum):
    """Where a job is in its life; `life.py` says how it moves on."""

    WAITING = "waiting"
    DELAYED = "delayed"
    BLOCKED = "blocked"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


SETTLED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
"""The states in which a job has ended."""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to speak for an active job, for a limited time.

    `token` is the fence: it grows with every claim in the store and never
    repeats. Name and attempt are there so that a fact about the job can be
    written without reading it; `row` is the store's own short cut to the
    record, 0 where it has none. `tied`: somebody else waits for the end of the
    job (others of its key, a dedup key, a flow), and the store has to look who.
    """

    queue: str
    job_id: str
    token: int
    name: str = ""
    attempt: int = 0
    row: int = 0
    tied: bool = False


class Options(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a job is run; None leaves the choice to the processor, and else to the default.

    `dedup` is said by whoever adds, of the job that is added. `trace` is the trace that it belongs to, as who follows
    jobs writes it; the text means nothing here.
    """

    attempts: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    max_stalls: int | None = None
    keep_for: float | None = None
    expires_in: float | None = None
    dedup: Dedup | None = None
    trace: str | None = None

    def __post_init__(self) -> None:
        if self.attempts is not None:
            _check_whole("attempts", self.attempts, 1, MOST_ATTEMPTS, "leave it out to run once")
        if self.max_stalls is not None:
            _check_whole("max_stalls", self.max_stalls, 0, MOST_ATTEMPTS, "0 fails a job at its first stall")
        if self.backoff is not None and not isinstance(self.backoff, Fixed | Exponential | Steps):
            raise OptionError(
                f"backoff must be Fixed, Exponential or Steps, not {self.backoff!r}; "
                "a function of your own is given to the processor"
            )
        if self.timeout is not None and not (_is_within(self.timeout, 0, LONGEST_DELAY) and self.timeout > 0):
            raise OptionError(f"timeout must be more than 0 seconds, not {self.timeout!r}; leave it out for no limit")
        if self.keep_for is not None and not _is_within(self.keep_for, 0, LONGEST_DELAY):
            raise OptionError(
                f"keep_for must be 0 seconds or more, not {self.keep_for!r}; 0 removes a job when it ends"
            )

        if self.expires_in is not None and not (_is_within(self.expires_in, 0, LONGEST_DELAY) and self.expires_in > 0):
            raise OptionError(
                f"expires_in must be more than 0 seconds, not {self.expires_in!r}; leave it out for a job that may "
                "begin at any time"
            )
        if self.dedup is not None and not isinstance(self.dedup, Dedup):
            raise OptionError(f"dedup must be a Dedup, not {_shown(self.dedup)}")
        if self.trace is not None and (not isinstance(self.trace, str) or len(self.trace) > LONGEST_TRACE):
            raise OptionError(f"trace must be text of at most {LONGEST_TRACE} characters, not {_shown(self.trace)}")

    def over(self, defaults: Options) -> Options:
        """Fill what is left open here from `defaults`."""
        if self is NO_OPTIONS:
            return defaults
        if defaults is NO_OPTIONS:
            return self
        return Options(
            attempts=defaults.attempts if self.attempts is None else self.attempts,
            backoff=defaults.backoff if self.backoff is None else self.backoff,
            timeout=defaults.timeout if self.timeout is None else self.timeout,
            max_stalls=defaults.max_stalls if self.max_stalls is None else self.max_stalls,
            keep_for=defaults.keep_for if self.keep_for is None else self.keep_for,
            expires_in=defaults.expires_in if self.expires_in is None else self.expires_in,
            dedup=defaults.dedup if self.dedup is None else self.dedup,
            trace=defaults.trace if self.trace is None else self.trace,
        )


NO_OPTIONS = Options()
"""What a job that says nothing for itself has: this very object, so that it is known without a comparison."""


class Retention(msgspec.Struct, frozen=True):
    """How long ended jobs of a queue are kept: seconds after the end, and how many at most.

    Cancelled jobs follow the rule for failed ones.
    """

    completed_for: float = 86_400.0
    completed_most: int = 10_000
    failed_for: float = 14 * 86_400.0
    failed_most: int = 10_000

    def __post_init__(self) -> None:
        for name in ("completed_for", "completed_most", "failed_for", "failed_most"):
            value = getattr(self, name)
            if not _is_within(value, 0, LONGEST_DELAY):
                raise OptionError(f"retention {name} must be 0 or more, not {value!r}")


class NewJob(msgspec.Struct, frozen=True, gc=False):
    """A job to be stored. `data` is JSON text, `delay` is seconds from the moment the store has it."""

    id: str
    queue: str
    name: str
    data: str = "null"
    priority: int = 0
    delay: float = 0.0
    options: Options = NO_OPTIONS
    key: str | None = None

    def __post_init__(self) -> None:
        # Made by the thousand for bulk adds: what is usual is passed by the shortest test.
        check_id(self.id)
        if type(self.name) is not str or (self.queue, self.name) not in _seen_names:
            _see_names(self.queue, self.name)
        if type(self.priority) is not int or not -PRIORITY_RANGE <= self.priority <= PRIORITY_RANGE:
            _check_whole("priority", self.priority, -PRIORITY_RANGE, PRIORITY_RANGE, "higher runs sooner, 0 is usual")
        if self.delay != 0 and not _is_within(self.delay, 0, LONGEST_DELAY):
            raise OptionError(f"delay must be between 0 and {LONGEST_DELAY:.0f} seconds, not {self.delay!r}")
        if self.key is not None:
            check_key(self.key)


class Job(msgspec.Struct, frozen=True, gc=False):
    """One stored piece of work, as it was when it was read.

    `attempt` counts the attempts so far, the running one included; `attempts` is
    how many are allowed (None: as its processor says). The `*_us` fields are
    microseconds since 1970 by the store's clock; the properties without the
    suffix give them as moments. `data`, `result` and `progress` are decoded
    from their JSON text each time they are asked for. `flow` is the id of the
    flow or batch that it is in; not known of a job that a claim gave. `arrival_us` is since when it
    had waited when it was claimed; told of some jobs of a claim at least, and only by that.
    """

    id: str
    queue: str
    name: str
    state: JobState
    priority: int
    data_text: str
    attempt: int = 0
    attempts: int | None = None
    stalls: int = 0
    releases: int = 0
    options: Options = NO_OPTIONS
    added_us: int = 0
    due_us: int | None = None
    started_us: int | None = None
    ended_us: int | None = None
    progress_text: str | None = None
    result_text: str | None = None
    failure: Failure | None = None
    worker: str | None = None
    lease: Lease | None = None
    steps_text: str | None = None
    key: str | None = None
    flow: str | None = None
    arrival_us: int | None = None

    @property
    def data(self) -> Any:
        """The data given when the job was added, or changed since."""
        return codec.decode(self.data_text)

    @property
    def result(self) -> Any:
        """What the processor returned; None until the job is completed."""
        return None if self.result_text is None else codec.decode(self.result_text)

    @property
    def progress(self) -> Any:
        """The latest progress told by a run; None before the first."""
        return None if self.progress_text is None else codec.decode(self.progress_text)

    @property
    def steps(self) -> dict[str, Any]:
        """The results of the steps that runs have done, by name; not known of a job that a claim gave."""
        return {} if self.steps_text is None else codec.decode(self.steps_text)

    @property
    def result_error(self) -> Failure | None:
        """Why the result of a completed job could not be kept, if it could not."""
        return self.failure if self.state is JobState.COMPLETED else None

    @property
    def added_at(self) -> datetime:
        return moment(self.added_us)

    @property
    def due_at(self) -> datetime | None:
        """When a delayed job becomes waiting."""
        return None if self.due_us is None else moment(self.due_us)

    @property
    def started_at(self) -> datetime | None:
        """When the latest attempt began."""
        return None if self.started_us is None else moment(self.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """When the job was completed, failed or cancelled."""
        return None if self.ended_us is None else moment(self.ended_us)

    @property
    def waited(self) -> float | None:
        """Seconds that it had waited when it was claimed, where its arrival is known."""
        if self.arrival_us is None or self.started_us is None:
            return None
        return max(0, self.started_us - self.arrival_us) / 1e6

    @property
    def settled(self) -> bool:
        """Whether the job has ended, in whichever way."""
        return self.state in SETTLED


def moment(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into an aware UTC moment."""
    return _EPOCH + timedelta(microseconds=microseconds)


def seconds(value: float | timedelta, what: str) -> float:
    """Read a duration given as seconds or `timedelta`; `what` names it in the error."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OptionError(f"{what} must be seconds or a timedelta, not {value!r}")
    return float(value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUEUE_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MOST_NAME = 255
_MOST_SEEN = 1000
_seen_names: set[tuple[str, str]] = set()
"""Names of queue and job that were checked before and found good."""


def _see_names(queue: str, name: str) -> None:
    check_queue_name(queue)
    check_job_name(name)
    if len(_seen_names) >= _MOST_SEEN:
        _seen_names.clear()
    _seen_names.add((queue, name))


def check_queue_name(name: str) -> str:
    """Return `name`, or raise `OptionError` when it cannot name a queue."""
    if not isinstance(name, str) or not _QUEUE_NAME.fullmatch(name):
        raise OptionError(f"queue name {_shown(name)} is not allowed; use 1 to 128 of A-Z a-z 0-9 . _ -")
    return name


def check_job_name(name: str) -> str:
    """Return `name`, or raise `OptionError` when it cannot name a job."""
    return _check_text("job name", name)


def check_id(id: str) -> str:
    """Return `id`, or raise `OptionError` when it cannot be the id of a job."""
    return _check_text("job id", id)


def check_key(key: str) -> str:
    """Return `key`, or raise `OptionError` when it cannot be the key of a job."""
    return _check_text("key", key)


def check_flow_id(id: str) -> str:
    """Return `id`, or raise `OptionError` when it cannot be the id of a flow or batch."""
    return _check_text("id of a flow or batch", id)


def check_parent_name(name: str) -> str:
    """Return `name`, or raise `OptionError` when a job cannot know a parent by it."""
    return _check_text("name of a parent", name)


def check_step_name(name: str) -> str:
    """Return `name`, or raise `OptionError` when it cannot name a step."""
    return _check_text("step name", name)


def _check_text(what: str, text: str) -> str:
    if not isinstance(text, str) or not 1 <= len(text) <= _MOST_NAME or not text.isprintable():
        raise OptionError(f"{what} {_shown(text)} is not allowed; use 1 to {_MOST_NAME} printable characters")
    return text


def _check_whole(what: str, value: int, least: int, most: int, hint: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(f"{what} must be a whole number, not {value!r}; {hint}")
    if value < least:
        raise OptionError(f"{what} must be at least {least}, not {value}; {hint}")
    if value > most:
        raise OptionError(f"{what} must be at most {most}, not {value}; {hint}")


def _is_within(value: object, least: float, most: float) -> bool:
    # NaN is within nothing.
    return isinstance(value, int | float) and least <= value <= most


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"
