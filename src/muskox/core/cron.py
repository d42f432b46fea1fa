"""Cron: the moments at which the wall clock of a time zone matches an expression.

Says what happens where the clock is changed. How an expression is read stands
in `cronfields.py`, where the clock is changed in `zones.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import ClassVar, Literal

import msgspec

from muskox.core.cronfields import Pattern, read
from muskox.core.errors import OptionError
from muskox.core.zones import FIRST_US, LAST_US, Piece, aware, check_preview, pieces, zone

__all__ = ["Cron"]

_SECOND = 1_000_000
_TODAY_US = 1_767_225_600_000_000  # 2026-01-01
_GAPS = ("after", "skip")
_FOLDS = ("first", "second", "both")
# As far as a search looks ahead: leap days on one weekday are 40 years apart around 2100.
_HORIZON = 50 * 366 * 86_400


class Cron(msgspec.Struct, frozen=True, tag="cron", omit_defaults=True):
    """The moments at which the wall clock of zone `tz` matches an expression of five or six fields.

    Six fields begin with the second, five with the minute. Days match when
    day of month and day of week both match, if one of the two begins with
    `*` (or is `?`); else when either does.

    An expression without `*` and steps in minute and hour names times of the
    day. Where the clock is put forward over one, `gap` says "after" (once, at
    the first instant after the gap) or "skip"; where it is put back and the
    time comes twice, `fold` says "first", "second" or "both". All other
    expressions are a rhythm: they match whenever the clock shows a match.
    """

    expression: str
    tz: str = "UTC"
    gap: Literal["after", "skip"] = "after"
    fold: Literal["first", "second", "both"] = "first"

    EVERY_SECOND: ClassVar[str] = "* * * * * *"
    EVERY_5_SECONDS: ClassVar[str] = "*/5 * * * * *"
    EVERY_10_SECONDS: ClassVar[str] = "*/10 * * * * *"
    EVERY_30_SECONDS: ClassVar[str] = "*/30 * * * * *"
    EVERY_MINUTE: ClassVar[str] = "* * * * *"
    EVERY_5_MINUTES: ClassVar[str] = "*/5 * * * *"
    EVERY_10_MINUTES: ClassVar[str] = "*/10 * * * *"
    EVERY_15_MINUTES: ClassVar[str] = "*/15 * * * *"
    EVERY_30_MINUTES: ClassVar[str] = "*/30 * * * *"
    EVERY_HOUR: ClassVar[str] = "0 * * * *"
    EVERY_2_HOURS: ClassVar[str] = "0 */2 * * *"
    EVERY_3_HOURS: ClassVar[str] = "0 */3 * * *"
    EVERY_4_HOURS: ClassVar[str] = "0 */4 * * *"
    EVERY_6_HOURS: ClassVar[str] = "0 */6 * * *"
    EVERY_12_HOURS: ClassVar[str] = "0 */12 * * *"
    EVERY_DAY_AT_MIDNIGHT: ClassVar[str] = "0 0 * * *"
    EVERY_DAY_AT_NOON: ClassVar[str] = "0 12 * * *"
    EVERY_WEEK: ClassVar[str] = "0 0 * * SUN"
    EVERY_WEEKDAY: ClassVar[str] = "0 0 * * MON-FRI"
    EVERY_WEEKEND: ClassVar[str] = "0 0 * * SAT,SUN"
    EVERY_MONTH: ClassVar[str] = "0 0 1 * *"
    EVERY_QUARTER: ClassVar[str] = "0 0 1 1,4,7,10 *"
    EVERY_6_MONTHS: ClassVar[str] = "0 0 1 1,7 *"
    EVERY_YEAR: ClassVar[str] = "0 0 1 1 *"
    LAST_DAY_OF_MONTH: ClassVar[str] = "0 0 L * *"
    WEEKDAYS_AT_8: ClassVar[str] = "0 8 * * MON-FRI"
    WEEKDAYS_AT_9: ClassVar[str] = "0 9 * * MON-FRI"
    WEEKDAYS_AT_NOON: ClassVar[str] = "0 12 * * MON-FRI"
    WEEKDAYS_AT_17: ClassVar[str] = "0 17 * * MON-FRI"
    EVERY_30_MINUTES_FROM_9_TO_17: ClassVar[str] = "*/30 9-16 * * *"

    def __post_init__(self) -> None:
        if self.gap not in _GAPS:
            raise OptionError(f"gap must be one of {', '.join(_GAPS)}, not {self.gap!r}")
        if self.fold not in _FOLDS:
            raise OptionError(f"fold must be one of {', '.join(_FOLDS)}, not {self.fold!r}")
        if not isinstance(self.tz, str):
            raise OptionError(f"tz must be the name of a time zone, not {self.tz!r}; say tz='Europe/Vienna'")
        zone(self.tz)
        read(self.expression)
        if not _is_ever(self):
            raise OptionError(
                f"cron {self.expression!r} has no moment ever in {self.tz}: it names times that the clock leaves out; "
                "use gap='after' or times of the day without a step"
            )

    def next_after(self, moment_us: int) -> int | None:
        """The first moment after `moment_us`; None when there is none for fifty years."""
        start = max(moment_us, FIRST_US) // _SECOND + 1
        search = _Search(read(self.expression))
        for piece, low, high in self._pieces(search.pattern, start):
            if piece.begin > start + _HORIZON:
                break
            if piece.begin >= start and self._is_after_gap(search, piece):
                return piece.begin * _SECOND
            wall = search.next_from(low)
            if wall is None:
                break
            if wall < high:
                return (wall - piece.offset) * _SECOND
        return None

    def count(self, after_us: int, until_us: int) -> int:
        """How many moments are after the one and not after the other, without a walk over them."""
        start, stop = max(after_us, FIRST_US) // _SECOND + 1, min(until_us, LAST_US) // _SECOND + 1
        search = _Search(read(self.expression))
        found = 0
        for piece, low, high in self._pieces(search.pattern, start):
            if piece.begin >= stop:
                break
            found += search.pattern.count(low, min(high, stop + piece.offset))
            if piece.begin >= start and self._is_after_gap(search, piece):
                # Unless the wall clock time at the end of the gap matches too: that is the same moment.
                first = piece.begin + piece.offset
                found += not search.pattern.count(first, first + 1)
        return found

    def explain(self) -> str:
        """Say it in words, with the zone."""
        pattern = read(self.expression)
        words = f"{pattern.explain()}, {self.tz}"
        if pattern.elapsed or self.tz == "UTC":
            return words
        if self.gap == "skip":
            words += "; not at all where the clock is put forward over it"
        if self.fold != "first":
            words += f"; {'at the second' if self.fold == 'second' else 'both times'} where it comes twice"
        return words

    def preview(self, n: int, *, after: datetime) -> list[datetime]:
        """The next `n` moments after an aware moment, in the zone."""
        found: list[datetime] = []
        at: int | None = check_preview(n, after)
        while at is not None and len(found) < n:
            at = self.next_after(at)
            if at is not None:
                found.append(aware(at, self.tz))
        return found

    def _pieces(self, pattern: Pattern, start: int) -> Iterator[tuple[Piece, int, int]]:
        """The pieces of the zone from an instant on, each with the first wall that counts and the one after the last.

        Of a stretch of wall clock times that comes twice, the fold rule takes
        one away: from the second piece its begin, or from the first one its end.
        """
        fold = "both" if pattern.elapsed else self.fold
        for piece in pieces(self.tz, start):
            if piece.end <= start:
                continue
            low, high = max(piece.begin, start) + piece.offset, piece.end + piece.offset
            if fold == "first":
                low = max(low, piece.begin + piece.before)
            elif fold == "second":
                high = min(high, piece.end + piece.after)
            yield piece, low, high

    def _is_after_gap(self, search: _Search, piece: Piece) -> bool:
        """Whether the piece begins with a moment that makes up for those in the gap before it."""
        if search.pattern.elapsed or self.gap == "skip" or piece.before >= piece.offset:
            return False
        wall = search.next_from(piece.begin + piece.before)
        return wall is not None and wall < piece.begin + piece.offset


class _Search:
    """Looks for matches and remembers the last stretch without one, since pieces ask for the same again."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self._low = 0
        self._found: int | None = -1

    def next_from(self, wall: int) -> int | None:
        if self._found is None or not self._low <= wall <= self._found:
            self._low, self._found = wall, self.pattern.next_from(wall)
        return self._found


@lru_cache(maxsize=4096)
def _is_ever(cron: Cron) -> bool:
    # By the rules for daylight saving of today: what was, before they were changed, helps nobody.
    return cron.next_after(_TODAY_US) is not None
