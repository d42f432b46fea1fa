"""Reads what programs say about a schedule, and refuses what cannot be meant.

Turns friendly values into those of the core. It asks no clock and no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

import msgspec

from muskox.core.backoff import Backoff
from muskox.core.dedup import Dedup
from muskox.core.errors import OptionError
from muskox.core.intent import Intent
from muskox.core.job import seconds
from muskox.core.schedule import Every, Once, Overlap, Schedule, When

__all__ = [
    "ScheduleOptions",
    "TimeOptions",
    "Timing",
    "intent",
    "microseconds",
    "time_options",
    "timed_every",
    "timed_once",
]

CatchUp = int | Literal["none", "one"]
OverlapName = Overlap | Literal["allow", "skip", "queue"]


class TimeOptions(TypedDict, total=False):
    """What may be said about the moments of a schedule.

    `catch_up` (how many of the moments that were missed are made up for, oldest first: "none", "one", which is the
    latest and the default, or a number), `grace` (seconds late that still count as on time, default 60), `overlap`
    (while the last job has not ended: "allow", "skip" the moment, or "queue" at most one), `jitter` (each job is
    delayed by chance, up to so many seconds), `starts_at` and `ends_at` (first and last moment allowed, aware).
    """

    catch_up: CatchUp
    grace: float | timedelta
    overlap: OverlapName
    jitter: float | timedelta
    starts_at: datetime | None
    ends_at: datetime | None


class ScheduleOptions(TimeOptions, total=False):
    """What may be said about a schedule and its jobs: `TimeOptions`, and of `Queue.add` what is not about time."""

    priority: int | None
    attempts: int | None
    backoff: Backoff | None
    timeout: float | timedelta | None
    max_stalls: int | None
    keep_for: float | timedelta | None
    expires_in: float | timedelta | None
    dedup: Dedup | str | None
    key: str | None


class Timing(msgspec.Struct, frozen=True):
    """When something shall happen, as it was said; `floating`: counted from when it is put, see `Intent`."""

    when: When
    floating: bool = False
    after: float = 0.0


def timed_every(interval: float | timedelta, starts_at: datetime | None) -> Timing:
    """Each interval, counted from `starts_at` or else from when it is put."""
    step = seconds(interval, "every")
    if starts_at is None:
        return Timing(Every(step), floating=True)
    return Timing(Every(step, microseconds(starts_at, "starts_at")))


def timed_once(after: float | timedelta | None, at: datetime | None) -> Timing:
    """One moment: `at` it, or `after` so many seconds."""
    if (after is None) == (at is None):
        raise OptionError("say when once is: give either after=, in seconds from now, or at=, an aware datetime")
    if at is not None:
        return Timing(Once(microseconds(at, "at")))
    delay = seconds(after or 0.0, "after")
    if delay < 0:
        raise OptionError(f"after must be 0 seconds or more, not {delay!r}; what is past cannot be awaited")
    return Timing(Once(0), floating=True, after=delay)


def microseconds(moment: datetime, what: str) -> int:
    """An aware moment as microseconds since 1970; `what` names it in the error."""
    if not isinstance(moment, datetime):
        raise OptionError(f"{what} must be an aware datetime, not {moment!r}")
    if moment.tzinfo is None:
        raise OptionError(
            f"{what}={moment.isoformat()} has no time zone; give an aware datetime, such as "
            'datetime(2026, 1, 1, 9, tzinfo=ZoneInfo("Europe/Vienna"))'
        )
    return round(moment.timestamp() * 1_000_000)


def time_options(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Schedule` that `TimeOptions` speak of; other options are left alone."""
    fields: dict[str, Any] = {}
    if "catch_up" in said:
        fields["catch_up"] = _catch_up(said["catch_up"])
    if "overlap" in said:
        fields["overlap"] = _overlap(said["overlap"])
    for name in ("grace", "jitter"):
        if name in said:
            fields[name] = seconds(said[name], name)
    for name, field in (("starts_at", "starts_us"), ("ends_at", "ends_us")):
        if name in said:
            fields[field] = None if said[name] is None else microseconds(said[name], name)
    return fields


def intent(timing: Timing, **fields: Any) -> Intent:
    """Put the parts of a schedule together, checking each."""
    return Intent(Schedule(when=timing.when, **fields), timing.floating, timing.after)


def _catch_up(said: object) -> int:
    if said == "none":
        return 0
    if said == "one":
        return 1
    if isinstance(said, bool) or not isinstance(said, int):
        raise OptionError(f'catch_up must be "none", "one" or a whole number, not {said!r}')
    return said


def _overlap(said: Any) -> Overlap:
    try:
        return Overlap(said)
    except ValueError:
        raise OptionError(f"overlap must be one of {', '.join(Overlap)}, not {said!r}") from None
