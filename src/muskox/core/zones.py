"""Time zones as pieces between two changes of the clock, and the range of moments we calculate with.

Says what a wall clock shows at a moment; which moments a rule picks is no
business of this module. Seconds since 1970 UTC are called instants here, and
the same number read off a wall clock is called a wall.
"""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from muskox.core.errors import OptionError

__all__ = [
    "FIRST_US",
    "LAST_US",
    "Piece",
    "aware",
    "check_preview",
    "microseconds",
    "pieces",
    "zone",
]

MOST_PREVIEW = 10_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE = timedelta(seconds=1)
_SECOND = 1_000_000
_DAY = 86_400
_YEAR = 366 * _DAY
# A wall clock was never moved by more than a day, so a change further away than this does not matter.
_NEAR = 2 * _DAY
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")

# A few days inside of what datetime can hold, so that no offset leads out of it.
_FIRST = (datetime(1, 1, 4, tzinfo=UTC) - _EPOCH) // _ONE
_LAST = (datetime(9999, 12, 28, tzinfo=UTC) - _EPOCH) // _ONE
FIRST_US = _FIRST * _SECOND
"""Moments are not before this one, at the start of the year 1."""
LAST_US = _LAST * _SECOND
"""Moments are not after this one, at the end of the year 9999."""


class Piece(NamedTuple):
    """A stretch of time without a change of the clock, from `begin` up to but not with `end`.

    `offset` is what the wall clock is ahead of UTC in it, `before` and `after`
    the offsets on its two sides: the same ones where the clock is not changed.
    """

    begin: int
    end: int
    before: int
    offset: int
    after: int


class _Change(NamedTuple):
    at: int
    offset: int


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of that name in the database of the machine, or `OptionError`."""
    try:
        if not _ZONE.fullmatch(name):
            raise ValueError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        # A folder of zones ("America") is an OSError, an unknown name a KeyError.
        raise OptionError(
            f"time zone {name!r} is not known here; use a name like Europe/Vienna or UTC, "
            "and install tzdata where the system has no zones"
        ) from None


def aware(instant_us: int, name: str) -> datetime:
    """Microseconds since 1970 as an aware datetime of a zone."""
    return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(zone(name))


def microseconds(value: datetime, what: str) -> int:
    """An aware datetime as microseconds since 1970; `what` names it in the error."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise OptionError(f"{what} must be a datetime with a time zone, not {value!r}; say datetime(…, tzinfo=UTC)")
    return (value - _EPOCH) // timedelta(microseconds=1)


def check_preview(n: int, after: datetime) -> int:
    """Return `after` in microseconds, or raise `OptionError` when a preview cannot be given."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_PREVIEW:
        raise OptionError(f"n must be a whole number from 1 to {MOST_PREVIEW}, not {n!r}")
    return microseconds(after, "after")


def pieces(name: str, instant: int) -> Iterator[Piece]:
    """The pieces of a zone in order, from two days before an instant to the end of the year 9999.

    A piece may also end where the clock is not changed, once a year, so that
    finding its end is not a search through centuries; no change is near such an end.
    """
    begin = min(max(instant - _NEAR, _FIRST), _LAST)
    before = offset = _offset(name, begin)
    while begin < _LAST:
        change = _next_change(name, begin, begin + _YEAR + _NEAR)
        if change is None:
            end, after = min(begin + _YEAR, _LAST), offset
        else:
            end, after = change
        yield Piece(begin, end, before, offset, after)
        begin, before, offset = end, offset, after


def _offset(name: str, instant: int) -> int:
    return round(_shown(zone(name), instant).total_seconds())


def _shown(tz: ZoneInfo, instant: int) -> timedelta:
    """What the wall clock is ahead of UTC at an instant."""
    found = (_EPOCH + timedelta(seconds=instant)).astimezone(tz).utcoffset()
    assert found is not None
    return found


def _next_change(name: str, after: int, until: int) -> _Change | None:
    if name == "UTC":
        return None
    for year in range(_year(after), _year(min(until, _LAST)) + 1):
        for change in _changes(name, year):
            if change.at > until:
                return None
            if change.at > after:
                return change
    return None


def _year(instant: int) -> int:
    return (_EPOCH + timedelta(seconds=instant)).year


@lru_cache(maxsize=16_384)
def _changes(name: str, year: int) -> tuple[_Change, ...]:
    """The changes of offset within a year of UTC, found by looking once a day and halving.

    Two changes on one day that undo each other would be overlooked; the test
    over all zones shows that there are none.
    """
    tz = zone(name)
    first = datetime(year, 1, 1, tzinfo=UTC)
    low = max((first - _EPOCH) // _ONE - 1, _FIRST)
    stop = min(low + (366 if isleap(year) else 365) * _DAY, _LAST)
    found = []
    offset = _shown(tz, low)
    while low < stop:
        high = min(low + _DAY, stop)
        after = _shown(tz, high)
        if after != offset:
            found.append(_Change(_halve(tz, low, high, offset), round(after.total_seconds())))
        low, offset = high, after
    return tuple(found)


def _halve(tz: ZoneInfo, low: int, high: int, offset: timedelta) -> int:
    """The first instant whose offset is not `offset`, after `low` and not after `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        if _shown(tz, middle) == offset:
            low = middle
        else:
            high = middle
    return high
