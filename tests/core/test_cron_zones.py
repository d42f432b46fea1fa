"""Every change of the clock of eleven years in every time zone, against brute force: none missed, none doubled.

Each change is judged by brute force for one of the zones that have it, and the others must do the same; where an
expression has many moments around it, by default one zone does. With `MUSKOX_TEST_ALL_ZONES=1` all zones with
all expressions and all policies, which takes minutes.
"""

from __future__ import annotations

import os
from functools import cache
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from muskox.core.cron import Cron
from tests.core.cron_oracle import DAY, Change, all_zones, changes, instant, moments, offset

ALL = bool(os.environ.get("MUSKOX_TEST_ALL_ZONES"))
START, STOP = instant(2016, 1, 1), instant(2027, 1, 1)
SECOND, HOUR = 1_000_000, 3600
if ALL:
    pytestmark = pytest.mark.timeout(1800)
POLICIES = list(product(["after", "skip"], ["first", "second", "both"]))
USUAL = POLICIES[:1]
FEW = 12
"""Moments around a change that each zone is walked through."""

FIXED = ("30 2 * * *", "0 0 * * *", "15,45 30 1-3 * * *", "0 0 3 * * SUN", "59 23 L * *", "0,20,40 0-3,23 * * *")
STEPPED = ("*/10 * * * *", "0 */2 * * *", "30 * * * *", "0,30 */15 2 * * *", "15 10-50/20 1-3/2 * * *", "*/7 */3 L * ?")


@cache
def kinds() -> dict[Change, list[str]]:
    """The changes of the years, each with the zones that have it."""
    found: dict[Change, list[str]] = {}
    for name in all_zones():
        for change in changes(name, START, STOP, 5 * DAY):
            found.setdefault(change, []).append(name)
    return found


def span(change: Change) -> tuple[int, int]:
    """From before the change until after it, so far that all wall clock times that it leaves out or repeats are in."""
    around = abs(change.after - change.before) + HOUR
    return change.at - around, change.at + around


def ours(cron: Cron, start: int, stop: int) -> list[int]:
    found = []
    at = cron.next_after(start * SECOND - 1)
    while at is not None and at < stop * SECOND:
        found.append(at // SECOND)
        at = cron.next_after(at)
    return found


def judge(text: str, change: Change, names: list[str], gap: str = "after", fold: str = "first") -> None:
    start, stop = span(change)
    wanted = moments(text, names[0], start, stop, gap=gap, fold=fold)
    for name in names if ALL or len(wanted) <= FEW else names[:1]:
        assert ours(Cron(text, name, gap, fold), start, stop) == wanted, (text, name, change, gap, fold)


def test_fault_t06_a_rhythm_matches_whenever_the_clock_shows_it():
    for change, names in kinds().items():
        for text in STEPPED:
            judge(text, change, names)


def test_fault_t06_a_time_of_the_day_comes_once_by_the_rules_for_gap_and_fold():
    for change, names in kinds().items():
        for text in FIXED:
            for gap, fold in POLICIES if ALL else USUAL:
                judge(text, change, names, gap, fold)


@cache
def of_each_sort() -> dict[Change, str]:
    """A change of each sort, with a zone that has it: what differs within a sort is the date alone."""
    sorts = {(one.before, one.after, (one.at + one.before) % DAY): one for one in sorted(kinds())}
    return {change: kinds()[change][0] for change in sorts.values()}


@pytest.mark.parametrize("text", FIXED)
def test_a_time_of_the_day_comes_by_each_rule_for_gap_and_fold(text):
    for change, name in of_each_sort().items():
        for gap, fold in POLICIES:
            judge(text, change, [name], gap, fold)


@pytest.mark.parametrize("text", [*FIXED, *STEPPED])
def test_counting_agrees_with_walking(text):
    for change, name in of_each_sort().items():
        first, last = span(change)
        for gap, fold in POLICIES if text in FIXED else USUAL:
            cron = Cron(text, name, gap, fold)
            walked = ours(cron, first, last + 1)
            for start, stop in ((first, change.at), (change.at - 1800, last)):
                wanted = len([at for at in walked if start < at <= stop])

                assert cron.count(start * SECOND, stop * SECOND) == wanted, (name, change, gap, fold)


@pytest.mark.skipif(not ALL, reason="looks at each hour of eleven years in each zone; MUSKOX_TEST_ALL_ZONES=1 runs it")
def test_no_two_changes_of_a_zone_are_within_a_day_of_each_other():
    for name in all_zones():
        zone, found = ZoneInfo(name), changes(name, START, STOP, 3600)

        assert found == changes(name, START, STOP, DAY), name
        assert all(offset(at, zone) == after for at, _, after in found)
