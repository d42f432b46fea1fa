"""What a schedule is, and what becomes of its moments: a name, a rule of moments, and the job to add.

A pure calculation: the caller brings the clock and the dice. Which worker may
fire a moment, and that it is fired once, belongs to the store.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum

import msgspec

from muskox.core.cron import Cron
from muskox.core.errors import OptionError
from muskox.core.job import (
    LONGEST_DELAY,
    NO_OPTIONS,
    PRIORITY_RANGE,
    Options,
    check_id,
    check_job_name,
    check_key,
    check_queue_name,
    moment,
)
from muskox.core.zones import FIRST_US, LAST_US, check_preview

__all__ = [
    "MOST_AT_ONCE",
    "MOST_CATCH_UP",
    "Every",
    "Moment",
    "Once",
    "Overlap",
    "Owner",
    "Plan",
    "Schedule",
    "Told",
    "When",
    "check_schedule_name",
    "plan",
]

SHORTEST_EVERY = 0.1
MOST_CATCH_UP = 1000
"""No more moments than this are caught up at once."""
MOST_AT_ONCE = 1000
"""No more moments than this are on time in one plan; the next plan takes those that are left."""

_SECOND = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


class Every(msgspec.Struct, frozen=True, tag="every", omit_defaults=True):
    """Each moment a whole number of steps of `seconds` away from the anchor, so that nothing drifts.

    A step is rounded to whole microseconds. Moments before the anchor count
    as well; a schedule's `starts_us` says when to begin.
    """

    seconds: float
    anchor_us: int = 0

    def __post_init__(self) -> None:
        if not _is_within(self.seconds, SHORTEST_EVERY, LONGEST_DELAY):
            raise OptionError(
                f"every must be {SHORTEST_EVERY} to {LONGEST_DELAY:.0f} seconds, not {self.seconds!r}; "
                "for more often use a loop of your own"
            )
        _check_moment("anchor_us", self.anchor_us)

    @property
    def step_us(self) -> int:
        return round(self.seconds * _SECOND)

    def next_after(self, moment_us: int) -> int | None:
        """The first moment after `moment_us`; None when it would be after the year 9999."""
        found = max(moment_us, FIRST_US) + self.step_us
        found -= (found - self.anchor_us) % self.step_us
        return found if found <= LAST_US else None

    def count(self, after_us: int, until_us: int) -> int:
        """How many moments are after the one and not after the other."""
        after_us, until_us = max(after_us, FIRST_US), min(until_us, LAST_US)
        steps = (until_us - self.anchor_us) // self.step_us - (after_us - self.anchor_us) // self.step_us
        return max(0, steps)

    def explain(self) -> str:
        """Say it in words."""
        for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
            if self.seconds >= size and self.seconds % size == 0:
                number = int(self.seconds // size)
                return f"Every {name}" if number == 1 else f"Every {number} {name}s"
        return f"Every {self.seconds:g} seconds"

    def preview(self, n: int, *, after: datetime) -> list[datetime]:
        """The next `n` moments after an aware moment, in UTC."""
        return _preview(self, n, after)


class Once(msgspec.Struct, frozen=True, tag="once", omit_defaults=True):
    """One moment and no other."""

    at_us: int

    def __post_init__(self) -> None:
        _check_moment("at_us", self.at_us)

    def next_after(self, moment_us: int) -> int | None:
        """The moment, if it is after `moment_us`."""
        return self.at_us if self.at_us > moment_us else None

    def count(self, after_us: int, until_us: int) -> int:
        """How many moments are after the one and not after the other."""
        return int(after_us < self.at_us <= until_us)

    def explain(self) -> str:
        """Say it in words."""
        return f"Once at {moment(self.at_us):%Y-%m-%d %H:%M:%S} UTC"

    def preview(self, n: int, *, after: datetime) -> list[datetime]:
        """The moment, in UTC, if it is after an aware moment."""
        return _preview(self, n, after)


When = Cron | Every | Once
"""The rules that say which moments a schedule has."""


class Overlap(StrEnum):
    """What to do at a moment while the last job of the schedule has not ended."""

    ALLOW = "allow"
    """Add the job all the same."""
    SKIP = "skip"
    """Add nothing for this moment."""
    QUEUE = "queue"
    """Add it unless one waits already: at most one runs and one waits."""


class Owner(StrEnum):
    """Who made a schedule: a deploy changes only what code has declared."""

    CODE = "code"
    USER = "user"


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named rule that adds jobs, and what it says about late, missed and overlapping moments.

    A moment is on time until `grace` seconds after it. Of the moments that are
    later than that, the latest `catch_up` are fired, oldest first: 0 for none,
    1 for the latest alone. `jitter` delays each job by up to so many seconds.
    `starts_us` and `ends_us` are the first and the last moment allowed.
    """

    name: str
    queue: str
    job: str
    when: When
    data: str = "null"
    priority: int = 0
    options: Options = NO_OPTIONS
    catch_up: int = 1
    grace: float = 60.0
    overlap: Overlap = Overlap.ALLOW
    jitter: float = 0.0
    starts_us: int | None = None
    ends_us: int | None = None
    owner: Owner = Owner.USER
    key: str | None = None

    def __post_init__(self) -> None:
        check_schedule_name(self.name)
        check_queue_name(self.queue)
        check_job_name(self.job)
        if not isinstance(self.when, Cron | Every | Once):
            raise OptionError(f"when must be a Cron, Every or Once, not {self.when!r}")
        if not isinstance(self.data, str):
            raise OptionError(f"data must be JSON text, not {type(self.data).__name__}; encode it before")
        if not isinstance(self.options, Options):
            raise OptionError(f"options must be Options, not {self.options!r}")
        _check_whole("priority", self.priority, -PRIORITY_RANGE, PRIORITY_RANGE, "higher runs sooner, 0 is usual")
        _check_whole("catch_up", self.catch_up, 0, MOST_CATCH_UP, "0 drops what was missed, 1 fires the latest")
        if self.key is not None:
            check_key(self.key)
        _check_seconds("grace", self.grace)
        _check_seconds("jitter", self.jitter)
        _check_choice("overlap", self.overlap, Overlap)
        _check_choice("owner", self.owner, Owner)
        for what in ("starts_us", "ends_us"):
            if getattr(self, what) is not None:
                _check_moment(what, getattr(self, what))
        if self.starts_us is not None and self.ends_us is not None and self.starts_us > self.ends_us:
            raise OptionError(
                f"the schedule ends at {moment(self.ends_us)}, before it starts at {moment(self.starts_us)}; "
                "swap the two"
            )
        _check_fit(self.options, self.jitter)

    def first_after(self, moment_us: int) -> int | None:
        """The first moment after `moment_us` that is allowed; None when there is none."""
        if self.starts_us is not None:
            moment_us = max(moment_us, self.starts_us - 1)
        found = self.when.next_after(moment_us)
        return None if found is None or (self.ends_us is not None and found > self.ends_us) else found

    def job_id(self, generation: int, moment_us: int) -> str:
        """The id of the job for one moment: the same however often the moment is fired."""
        return check_id(f"schedule:{self.name}:{generation}:{moment_us}")


class Told(StrEnum):
    """What the ledger says of a moment."""

    FIRED = "fired"
    """On time: its job was added."""
    LATE = "late"
    """Its job was added as a catch-up."""
    SKIPPED = "skipped"
    """No job: the last one had not ended."""
    MISSED = "missed"
    """No job: it was too late, and catch-up did not ask for it."""
    RUN = "run"
    """Fired by hand."""


class Moment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of the ledger; a missed one may stand for `missed` moments up to `at_us`."""

    at_us: int
    told: Told
    reason: str = ""
    missed: int = 0


class Plan(msgspec.Struct, frozen=True):
    """What to do now: the moments in order, and the next due moment (None: the schedule is over)."""

    moments: tuple[Moment, ...]
    next_us: int | None


def plan(schedule: Schedule, due_us: int, now_us: int) -> Plan:
    """Say what becomes of each moment from the due one up to now, and which is due next.

    Each moment is told exactly once over all plans, since each begins where
    the one before it ended. A timer that is early gets an empty plan. The due
    moment counts even if today's rule would no longer give it. When more than
    `MOST_AT_ONCE` are on time, the rest is left: `next_us` is then not after
    now, and the caller plans again.

    The work is bounded by `catch_up` and `MOST_AT_ONCE`, however long nobody
    looked: the missed are counted by arithmetic, not by a walk.
    """
    if due_us > now_us:
        return Plan((), due_us)
    if schedule.ends_us is not None and due_us > schedule.ends_us:
        return Plan((), None)
    late_until = now_us - _grace_us(schedule) - 1
    moments = _late(schedule, due_us, late_until) if due_us <= late_until else []
    found = due_us if due_us > late_until else schedule.first_after(late_until)
    for _ in range(MOST_AT_ONCE):
        if found is None or found > now_us:
            break
        moments.append(Moment(found, Told.FIRED))
        found = schedule.first_after(found)
    return Plan(tuple(moments), found)


def _grace_us(schedule: Schedule) -> int:
    return round(schedule.grace * _SECOND)


def _late(schedule: Schedule, due_us: int, until_us: int) -> list[Moment]:
    """What becomes of the moments that are no longer on time: one entry for the missed, then the late."""
    if schedule.ends_us is not None:
        until_us = min(until_us, schedule.ends_us)
    number = 1 + schedule.when.count(due_us, until_us)
    # One more than may be caught up: it is the last of those that are missed.
    latest = _latest(schedule.when, due_us, until_us, schedule.catch_up + 1)
    if number <= len(latest) + 1:
        latest = [due_us, *latest]
    late = latest[max(0, len(latest) - schedule.catch_up) :]
    missed = number - len(late)
    moments = [Moment(at, Told.LATE) for at in late]
    if missed:
        reason = f"more than {schedule.grace:g} s late; catch_up is {schedule.catch_up}"
        moments.insert(0, Moment(latest[-len(late) - 1], Told.MISSED, reason, missed))
    return moments


def _latest(when: When, after_us: int, until_us: int, most: int) -> list[int]:
    """The latest moments in a span, at most `most`, in order.

    Halves the span to where they begin, so that nothing else is walked over.
    """
    low, high = after_us, until_us
    while when.count(low, until_us) > most and high - low > _SECOND:
        middle = (low + high) // 2
        if when.count(middle, until_us) >= most:
            low = middle
        else:
            high = middle
    found = []
    at = when.next_after(low)
    while at is not None and at <= until_us:
        found.append(at)
        at = when.next_after(at)
    return found[-most:]


def _preview(when: Every | Once, n: int, after: datetime) -> list[datetime]:
    found: list[datetime] = []
    at: int | None = check_preview(n, after)
    while at is not None and len(found) < n:
        at = when.next_after(at)
        if at is not None:
            found.append(moment(at))
    return found


def check_schedule_name(name: str) -> str:
    """Return `name`, or raise `OptionError` when it cannot name a schedule."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = repr(name) if len(repr(name)) <= 60 else f"{repr(name)[:50]}…"
        raise OptionError(f"schedule name {shown} is not allowed; use 1 to 128 of A-Z a-z 0-9 . _ : / -")
    return name


def _check_whole(what: str, value: object, least: int, most: int, hint: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise OptionError(f"{what} must be a whole number from {least} to {most}, not {value!r}; {hint}")


def _check_fit(options: Options, jitter: float) -> None:
    if options.dedup is not None and options.dedup.then == "reject":
        raise OptionError(
            "a schedule has nobody to tell that a job was refused; leave then='reject' of its dedup rule out, and the "
            "moment adds nothing"
        )
    if options.expires_in is not None and jitter >= options.expires_in:
        raise OptionError(
            f"expires_in={options.expires_in:g} counts from the moment and may be over before a jitter of {jitter:g} "
            "seconds is; give more"
        )


def _check_seconds(what: str, value: object) -> None:
    if not _is_within(value, 0, LONGEST_DELAY):
        raise OptionError(f"{what} must be 0 to {LONGEST_DELAY:.0f} seconds, not {value!r}")


def _check_moment(what: str, value: object) -> None:
    _check_whole(what, value, FIRST_US, LAST_US, "microseconds since 1970, as microseconds(datetime) gives them")


def _check_choice(what: str, value: object, choices: type[StrEnum]) -> None:
    if not isinstance(value, choices):
        raise OptionError(f"{what} must be one of {', '.join(choices)}, not {value!r}")


def _is_within(value: object, least: float, most: float) -> bool:
    # NaN is within nothing.
    return not isinstance(value, bool) and isinstance(value, int | float) and least <= value <= most
