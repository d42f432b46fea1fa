"""Cron expressions made at random, of five and six fields, over fifty years (T6), against brute force.

`pytest tests/core/test_cron_random.py --hypothesis-profile=deep` takes minutes.
"""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import assume, example, given

from muskox.core.cron import Cron
from muskox.core.errors import OptionError
from tests.core.cron_oracle import DAY, EPOCH, Expression, changes, instant, moments, shown

SECOND = 1_000_000
# A half-hour zone, half an hour of daylight saving, negative daylight saving, Ramadan, a date that moved, none at all.
ZONES = [
    "UTC",
    "Europe/Warsaw",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Asia/Gaza",
    "Pacific/Apia",
    "Asia/Kolkata",
    "Antarctica/Troll",
    "America/Santiago",
]


def terms(low: int, high: int) -> st.SearchStrategy[str]:
    """Numbers, ranges and steps of a field."""
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.tuples(
        st.one_of(st.just("*"), span, number.map(str)), st.integers(1, high - low + (low != 0 or high > 7))
    )
    return st.one_of(number.map(str), span, step.map(lambda pair: f"{pair[0]}/{pair[1]}"))


def lists(term: st.SearchStrategy[str], most: int = 3) -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.lists(term, min_size=1, max_size=most).map(",".join))


MINUTES, HOURS = lists(terms(0, 59)), lists(terms(0, 23))
DAYS = st.one_of(lists(st.one_of(terms(1, 31), st.sampled_from(["L", "LW"]))), st.just("?"))
MONTHS = st.one_of(st.just("*"), lists(st.one_of(terms(1, 12), st.sampled_from(["JAN", "feb", "Mar-Jun", "OCT-DEC"]))))
WEEKDAYS = st.one_of(
    lists(
        st.one_of(
            terms(0, 7),
            st.sampled_from(
                ["MON", "fri-mon", "SAT-SUN", "6-2", "WED-MON/2", "5L", "SUNL", "0L", "MON#1", "7#5", "4#3"]
            ),
        )
    ),
    st.just("?"),
)
FEW = st.lists(st.integers(0, 59).map(str), min_size=1, max_size=2).map(",".join)
HALF = DAY // 2


@st.composite
def expressions(draw: st.DrawFn, seconds: st.SearchStrategy[str] = MINUTES) -> str:
    """An expression of five or six fields; the days are often left open, so that something happens in a short time."""
    days = draw(st.one_of(st.just(("*", "*", "*")), st.tuples(DAYS, MONTHS, WEEKDAYS)))
    text = " ".join([draw(MINUTES), draw(HOURS), *days])
    return draw(st.one_of(st.just(text), seconds.map(lambda second: f"{second} {text}")))


@st.composite
def starts(draw: st.DrawFn, length: int) -> tuple[str, int]:
    """A zone and an instant, in half of the cases a little before a change of its clock."""
    name = draw(st.sampled_from(ZONES))
    near = changes(name, instant(1987, 1, 1), instant(2037, 1, 1), 7 * DAY)
    if near and draw(st.booleans()):
        at = draw(st.sampled_from(near)).at - draw(st.integers(0, length // 60)) * 60
    else:
        at = draw(st.integers(instant(1987, 1, 1) // 60, instant(2037, 1, 1) // 60)) * 60
    return name, at


def read(*args: str) -> Cron:
    try:
        return Cron(*args)
    except OptionError as refused:
        assume("no moment ever" not in str(refused))
        raise


def walked(cron: Cron, start: int, stop: int) -> list[int]:
    found, at = [], cron.next_after(start * SECOND - 1)
    while at is not None and at < stop * SECOND:
        found.append(at // SECOND)
        assert at > found[-1] * SECOND - 1
        at = cron.next_after(at)
    return found


@given(expressions(FEW), starts(HALF), st.sampled_from(["after", "skip"]), st.sampled_from(["first", "second", "both"]))
@example("0 0-0/1 * * *", ("Africa/Casablanca", instant(2008, 6, 1)), "after", "first")
@example("0-59 0-23 * * *", ("Pacific/Apia", instant(2011, 12, 30, 3)), "after", "first")
def test_fault_t06_random_expressions_agree_with_a_scan_of_the_minutes_of_half_a_day(text, where, gap, fold):
    name, start = where

    cron = read(text, name, gap, fold)

    assert walked(cron, start, start + HALF) == moments(text, name, start, start + HALF, gap=gap, fold=fold)


@given(expressions(), starts(600))
def test_fault_c07_random_expressions_agree_with_a_scan_of_the_seconds_of_a_quarter(text, where):
    name, start = where

    cron = read(text, name)

    assert walked(cron, start, start + 900) == moments(text, name, start, start + 900, step=1)


@given(DAYS, MONTHS, WEEKDAYS, st.sampled_from(ZONES), st.integers(1990, 2090))
def test_fault_c07_random_days_agree_with_a_scan_of_the_days_of_a_year(day, month, weekday, name, year):
    text = f"0 12 {day} {month} {weekday}"
    start, stop = instant(year, 1, 1), instant(year + 1, 3, 1)

    cron = read(text, name)

    expression, zone = Expression(text), ZoneInfo(name)
    found = [shown(at, zone).date() for at in walked(cron, start, stop)]
    every = [shown(start, zone).date() + timedelta(days=n) for n in range(1, (stop - start) // DAY - 1)]
    assert [day for day in found if day in set(every)] == [day for day in every if expression.on_day(day)]


@given(expressions(), starts(DAY), st.integers(0, 40 * DAY), st.sampled_from(["first", "second", "both"]))
def test_fault_c07_the_next_moment_is_later_and_nothing_lies_between(text, where, ahead, fold):
    name, start = where
    cron = read(text, name, "after", fold)

    found = cron.next_after((start + ahead) * SECOND)

    assert found is None or found > (start + ahead) * SECOND
    if found is not None:
        assert cron.next_after(found - 1) == found
        assert cron.count((start + ahead) * SECOND, found) == 1
        assert cron.count((start + ahead) * SECOND, found - 1) == 0


@given(expressions(), starts(DAY), st.lists(st.integers(0, 400 * DAY), min_size=2, max_size=2))
def test_counts_of_parts_add_up(text, where, lengths):
    name, start = where
    cron = read(text, name)
    middle, stop = start + min(lengths), start + max(lengths)

    whole = cron.count(start * SECOND, stop * SECOND)

    assert whole == cron.count(start * SECOND, middle * SECOND) + cron.count(middle * SECOND, stop * SECOND)


@given(st.text(alphabet="0123456789*/-,#?LWMONFRI@ \t", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        cron = Cron(text)
    except OptionError:
        return

    assert cron.next_after(0) is not None
    assert cron.explain()


def test_the_brute_force_knows_its_own_mind():
    found = moments("30 2 * * *", "Europe/Warsaw", instant(2026, 3, 28), instant(2026, 3, 31))

    assert [(EPOCH + timedelta(seconds=at)).isoformat() for at in found] == [
        "2026-03-28T01:30:00+00:00",
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:30:00+00:00",
    ]


@pytest.mark.parametrize("name", ZONES)
def test_a_year_of_seconds_is_counted_whole(name):
    assert Cron("* * * * * *", name).count(0, 366 * DAY * SECOND) == 366 * DAY
