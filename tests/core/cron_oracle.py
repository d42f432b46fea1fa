"""The moments of a cron expression by brute force: look at each second or minute, ask zoneinfo what the clock shows.

Shares no code and no idea with what it judges: nothing is searched, jumped over or calculated.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = {date(2000, number, 1).strftime("%b").lower(): number for number in range(1, 13)}
DAYS = {date(2000, 10, 1 + number).strftime("%a").lower(): number for number in range(7)}
LIMITS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
MINUTE, DAY = 60, 86_400


def instant(*when: int) -> int:
    """Seconds since 1970 of a moment in UTC."""
    return int((datetime(*when, tzinfo=UTC) - EPOCH).total_seconds())


# --- an expression ---------------------------------------------------------------------------------


def numbers(text: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    """What a list of numbers, ranges and steps stands for; special days are left out."""
    found: set[int] = set()
    for term in text.lower().split(","):
        if "#" in term or term.endswith("l") or term == "lw":
            continue
        span, _, step = term.partition("/")
        ends = [names[end] if end in names else int(end) for end in span.split("-") if span not in ("*", "?")]
        if not ends:
            line = list(range(low, high + 1))
        elif len(ends) == 1:
            line = list(range(ends[0], (high if not names or high != 6 else 7) + 1)) if step else ends
        elif ends[0] <= ends[1]:
            line = list(range(ends[0], ends[1] + 1))
        else:
            line = [*range(ends[0] % 7, high + 1), *range(low, ends[1] + 1)]
        found |= set(line[:: int(step or 1)])
    return found


class Expression:
    def __init__(self, text: str) -> None:
        fields = text.split()
        self.fields = fields = fields if len(fields) == 6 else ["0", *fields]
        names: list[dict[str, int]] = [{}, {}, {}, {}, MONTHS, DAYS]
        self.second, self.minute, self.hour, self.day, self.month, weekdays = (
            numbers(field, *limits, known) for field, limits, known in zip(fields, LIMITS, names, strict=True)
        )
        self.weekdays = {number % 7 for number in weekdays}
        self.both = any(field[0] in "*?" for field in (fields[3], fields[5]))
        self.elapsed = any("*" in field or "/" in field for field in fields[1:3])
        self._days: dict[date, bool] = {}

    def on_day(self, day: date) -> bool:
        if day not in self._days:
            by_day, by_weekday = self._by_day(day), self._by_weekday(day)
            self._days[day] = day.month in self.month and (
                (by_day and by_weekday) if self.both else (by_day or by_weekday)
            )
        return self._days[day]

    def _by_day(self, day: date) -> bool:
        terms = self.fields[3].lower().split(",")
        last = day.replace(day=monthrange(day.year, day.month)[1])
        weekday = max(last - timedelta(days=n) for n in range(3) if (last - timedelta(days=n)).isoweekday() < 6)
        return day.day in self.day or ("l" in terms and day == last) or ("lw" in terms and day == weekday)

    def _by_weekday(self, day: date) -> bool:
        here = day.isoweekday() % 7
        if here in self.weekdays:
            return True
        for term in self.fields[5].lower().split(","):
            name, hash_, number = term.partition("#")
            if term.endswith("l"):
                name = term[:-1]
            wanted = DAYS[name] if name in DAYS else int(name) % 7 if name.isdigit() else None
            if wanted != here:
                continue
            if term.endswith("l") and (day + timedelta(days=7)).month != day.month:
                return True
            if hash_ and (day.day - 1) // 7 + 1 == int(number):
                return True
        return False

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minute
            and wall.hour in self.hour
            and wall.second in self.second
            and self.on_day(wall.date())
        )


# --- its moments ----------------------------------------------------------------------------------


def shown(at: int, tz: ZoneInfo) -> datetime:
    """What the clock of a zone shows, aware."""
    return (EPOCH + timedelta(seconds=at)).astimezone(tz)


@lru_cache(maxsize=4)
def walls(tz: str, start: int, stop: int, step: int) -> list[tuple[int, datetime]]:
    """What the clock shows at each step."""
    zone = ZoneInfo(tz)
    return [(at, shown(at, zone)) for at in range(start, stop, step)]


def moments(text: str, tz: str, start: int, stop: int, *, gap="after", fold="first", step=MINUTE) -> list[int]:
    """All instants from `start` up to but not with `stop` that the stated rules give.

    Looks at each step, and with steps of a minute at each second the expression names in it.
    """
    expression, zone = Expression(text), ZoneInfo(tz)
    seconds = sorted(expression.second) if step == MINUTE else [0]
    found = set()
    before = shown(start - step, zone)
    for at, here in walls(tz, start, stop, step):
        for second in seconds:
            wall = here.replace(second=second) if second else here
            if expression.matches(wall) and (expression.elapsed or _is_meant(wall, fold)):
                found.add(at + second)
        if not expression.elapsed and gap == "after" and here.utcoffset() > before.utcoffset():
            missing = before.replace(tzinfo=None, second=0) + timedelta(seconds=step)
            while missing < here.replace(tzinfo=None):
                if any(expression.matches(missing.replace(second=second)) for second in expression.second):
                    found.add(at)
                missing += timedelta(seconds=MINUTE)
        before = here
    return sorted(found)


def _is_meant(wall: datetime, fold: str) -> bool:
    """Whether this one of the two showings of a wall clock time counts; most are shown once."""
    twice = wall.replace(fold=0).utcoffset() > wall.replace(fold=1).utcoffset()
    return not twice or fold == "both" or wall.fold == (0 if fold == "first" else 1)


# --- the changes of all zones ------------------------------------------------------------------------


class Change(NamedTuple):
    at: int
    before: int
    after: int


def offset(at: int, tz: ZoneInfo) -> int:
    return int(shown(at, tz).utcoffset().total_seconds())


@cache
def changes(tz: str, start: int, stop: int, step: int) -> tuple[Change, ...]:
    """The changes of a zone's offset, by looking once a step and then at each minute in it."""
    zone = ZoneInfo(tz)
    looks = [(at, offset(at, zone)) for at in range(start, stop, step)]
    found = []
    for (low, before), (high, after) in pairwise(looks):
        if before != after:
            at = next(at for at in range(low, high + 1, 900) if offset(at, zone) == after)
            at = next(at for at in range(at - 900, at + 1, MINUTE) if offset(at, zone) == after)
            found.append(Change(at, before, after))
    return tuple(found)


def all_zones() -> list[str]:
    return sorted(name for name in available_timezones() if name not in ("localtime", "posixrules", "Factory"))
