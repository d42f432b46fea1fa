"""Reads a cron expression: checks it field by field, and finds the next matching wall clock time.

Knows wall clocks only, as if the clock were never changed; time zones are the
business of `cron.py`. Only here is cronsim used: for the sets of a field, for
special days, and for words.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from calendar import monthrange
from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple

from cronsim import CronSim, CronSimError

from muskox.core.errors import OptionError

__all__ = ["Pattern", "read"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a wall clock of no zone)
_EPOCH_DAY = _EPOCH.toordinal()
_DAY = 86_400
_LAST_DAY = date.max.toordinal() - _EPOCH_DAY
# Days: leap days on one weekday are 40 years apart around the year 2100.
_SEARCHED = 50 * 366
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    allowed: str

    def value(self, text: str, term: str) -> int:
        """A number or a name as a number."""
        names = {"month": _MONTHS, "day of week": _WEEKDAYS}.get(self.name, [])
        if text in names:
            return names.index(text) + self.least
        if not re.fullmatch(r"[0-9]{1,4}", text) or not self.least <= int(text) <= self.most:
            self.refuse(term)
        return int(text)

    def refuse(self, term: str) -> None:
        raise OptionError(f"{self.name} {term!r} is not allowed in a cron expression; use {self.allowed}")


_SIXTY = "0 to 59, and * , - / between them"
_FIELDS = (
    _Field("second", 0, 59, _SIXTY),
    _Field("minute", 0, 59, _SIXTY),
    _Field("hour", 0, 23, "0 to 23, and * , - / between them"),
    _Field("day of month", 1, 31, "1 to 31, L (last day), LW (last weekday), ?, and * , - / between them"),
    _Field("month", 1, 12, "1 to 12 or JAN to DEC, and * , - / between them"),
    _Field(
        "day of week", 0, 7, "0 to 7 (0 and 7 are SUN) or SUN to SAT, 5L (last FRI), 5#2, ?, and * , - / between them"
    ),
)


class Pattern:
    """The wall clock times that an expression matches; made by `read`.

    `elapsed` tells that minute or hour hold a `*` or a step: such an
    expression means a rhythm and not a time of the day.
    """

    def __init__(self, parts: list[str]) -> None:
        fields = [_field(field, part) for field, part in zip(_FIELDS, parts, strict=True)]
        self._sim = CronSim(" ".join(fields), _EPOCH)
        # By what was written: a step is one too where it steps over nothing (5-5/3).
        self.elapsed = any(sign in parts[1] + parts[2] for sign in "*/")
        self._hours, self._minutes, self._seconds = map(sorted, (self._sim.hours, self._sim.minutes, self._sim.seconds))
        self._in_month: dict[tuple[int, int, int], tuple[int, ...]] = {}

    def next_from(self, wall: int) -> int | None:
        """The first match that is not before `wall`; None when there is none for fifty years."""
        day, second = divmod(wall, _DAY)
        if self._days(day, day + 1):
            found = self._time_from(second)
            if found is not None:
                return day * _DAY + found
        next_day = self._day_from(day + 1)
        if next_day is None:
            return None
        return next_day * _DAY + self._hours[0] * 3600 + self._minutes[0] * 60 + self._seconds[0]

    def count(self, low: int, high: int) -> int:
        """How many matches are not before `low` and before `high`, by arithmetic over months."""
        if low >= high:
            return 0
        (first, early), (last, late) = divmod(low, _DAY), divmod(high, _DAY)
        whole = self._days(first, last) * len(self._hours) * len(self._minutes) * len(self._seconds)
        return whole - self._on_day(first, early) + self._on_day(last, late)

    def explain(self) -> str:
        """Say it in words, without a zone."""
        return self._sim.explain()

    def _time_from(self, second: int) -> int | None:
        """The first matching time of a day that is not before that second of it."""
        hour, minute, second = second // 3600, second // 60 % 60, second % 60
        if hour in self._sim.hours:
            if minute in self._sim.minutes:
                at = bisect_left(self._seconds, second)
                if at < len(self._seconds):
                    return hour * 3600 + minute * 60 + self._seconds[at]
            at = bisect_right(self._minutes, minute)
            if at < len(self._minutes):
                return hour * 3600 + self._minutes[at] * 60 + self._seconds[0]
        at = bisect_right(self._hours, hour)
        if at == len(self._hours):
            return None
        return self._hours[at] * 3600 + self._minutes[0] * 60 + self._seconds[0]

    def _day_from(self, day: int) -> int | None:
        """The first matching day that is not before `day`; None when there is none for fifty years."""
        last = min(day + _SEARCHED, _LAST_DAY)
        while day <= last:
            start = date.fromordinal(day + _EPOCH_DAY)
            weekday, length = monthrange(start.year, start.month)
            matching = self._days_of_month(start, weekday, length)
            at = bisect_left(matching, start.day)
            if at < len(matching):
                return day + matching[at] - start.day
            day += length - start.day + 1
        return None

    def _on_day(self, day: int, second: int) -> int:
        """How many matches one day has before that second of it."""
        if not self._days(day, day + 1):
            return 0
        hour, minute, second = second // 3600, second // 60 % 60, second % 60
        minutes, seconds = len(self._minutes), len(self._seconds)
        found = bisect_left(self._hours, hour) * minutes * seconds
        if hour in self._sim.hours:
            found += bisect_left(self._minutes, minute) * seconds
            if minute in self._sim.minutes:
                found += bisect_left(self._seconds, second)
        return found

    def _days(self, first: int, last: int) -> int:
        """How many days match, from the first up to but not with the last, both counted from 1970."""
        found = 0
        day = first
        while day < last:
            start = date.fromordinal(day + _EPOCH_DAY)
            weekday, length = monthrange(start.year, start.month)
            after = min(last, day + length - start.day + 1)
            matching = self._days_of_month(start, weekday, length)
            found += bisect_left(matching, start.day + after - day) - bisect_left(matching, start.day)
            day = after
        return found

    def _days_of_month(self, month: date, weekday: int, length: int) -> tuple[int, ...]:
        """The matching days of a month: the same for each of that length that begins with that weekday."""
        if month.month not in self._sim.months:
            return ()
        key = (month.month, weekday, length)
        if key not in self._in_month:
            days = (month.replace(day=number) for number in range(1, length + 1))
            self._in_month[key] = tuple(day.day for day in days if self._sim.match_day(day))
        return self._in_month[key]


@lru_cache(maxsize=4096)
def read(expression: str) -> Pattern:
    """Read a cron expression of five or six fields, or an alias like `@daily`; wrong ones are an `OptionError`."""
    try:
        pattern = Pattern(_split(expression))
    except CronSimError:
        # What it refuses beyond our own checks is a day of the month that no month has.
        pattern = None
    # Within the fifty years that are searched from 1970 each day of the calendar comes once.
    if pattern is None or pattern.next_from(0) is None:
        raise OptionError(f"cron {expression!r} has no moment ever; no month that it allows has such a day")
    return pattern


def _split(expression: str) -> list[str]:
    """The six fields, second first, as they were written."""
    if not isinstance(expression, str):
        raise OptionError(f"cron must be text, not {expression!r}; write it like '0 9 * * MON-FRI'")
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in _ALIASES:
            raise OptionError(f"cron {expression!r} is not known; known are {', '.join(_ALIASES)}")
        text = _ALIASES[text.lower()]
    parts = text.upper().split()
    if len(parts) == 5:
        parts.insert(0, "0")
    if len(parts) != 6:
        raise OptionError(
            f"cron {expression!r} has {len(parts)} fields; write five (minute, hour, day of month, month, "
            "day of week) or six (second first)"
        )
    return parts


def _field(field: _Field, part: str) -> str:
    """A field in the words of cronsim."""
    if part == "?" and field.name.startswith("day"):
        return "*"
    return ",".join(_term(field, term) for term in part.split(","))


def _term(field: _Field, term: str) -> str:
    """One term between commas: special days as they are, ranges and steps checked, weekdays unrolled."""
    if field.name == "day of month" and term in ("L", "LW"):
        return term
    if field.name == "day of week" and term.endswith("L"):
        return f"{field.value(term[:-1], term)}L"
    if field.name == "day of week" and "#" in term:
        day, _, number = term.partition("#")
        if number not in ("1", "2", "3", "4", "5"):
            field.refuse(term)
        return f"{field.value(day, term)}#{number}"
    return _range(field, term)


def _range(field: _Field, term: str) -> str:
    base, slash, step = term.partition("/")
    most = field.most - field.least + (field.name != "day of week")
    if slash and not (re.fullmatch(r"[0-9]{1,4}", step) and 1 <= int(step) <= most):
        raise OptionError(
            f"step {step!r} of {field.name} {term!r} is not allowed; use 1 to {most}, or Every for another rhythm"
        )
    if base == "*":
        return term
    first, dash, last = base.partition("-")
    low = field.value(first, term)
    if not dash:
        return f"{low}{slash}{step}"
    high = field.value(last, term)
    if low == high:
        # With a step, cronsim would take it for the first of an open range.
        return str(low)
    if low < high:
        return f"{low}-{high}{slash}{step}"
    if field.name != "day of week":
        raise OptionError(
            f"{field.name} {term!r} goes backwards; write {low}-{field.most},{field.least}-{high} instead"
        )
    days = [*range(low % 7, 7), *range(high + 1)] if low != 7 else [*range(high + 1)]
    return ",".join(map(str, days[:: int(step or 1)]))
