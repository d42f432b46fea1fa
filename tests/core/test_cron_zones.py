"""Every change of the clock in every time zone, against brute force: no moment is missed, none comes twice.

By default one change of each kind from two years of all zones. With
`MUSKOX_TEST_ALL_ZONES=1` each change of eleven years in each zone, which takes minutes.
"""

from __future__ import annotations

import os
from functools import cache
from itertools import product

import pytest

from muskox.core.cron import Cron
from tests.core.cron_oracle import DAY, Change, all_zones, changes, instant, moments

ALL = bool(os.environ.get("MUSKOX_TEST_ALL_ZONES"))
START, STOP = (instant(2016, 1, 1), instant(2027, 1, 1)) if ALL else (instant(2024, 1, 1), instant(2026, 1, 1))
STEP = DAY if ALL else 2 * DAY
# The clock was moved by three hours at most in these years.
AROUND = 5 * 3600
SECOND = 1_000_000
if ALL:
    pytestmark = pytest.mark.timeout(1800)
POLICIES = list(product(["after", "skip"], ["first", "second", "both"]))

FIXED = ("30 2 * * *", "0 0 * * *", "15,45 30 1-3 * * *", "0 0 3 * * SUN", "59 23 L * *", "0,20,40 0-3,23 * * *")
STEPPED = ("*/10 * * * *", "0 */2 * * *", "30 * * * *", "0,30 */15 2 * * *", "15 10-50/20 1-3/2 * * *", "*/7 */3 L * ?")


@cache
def kinds() -> dict[Change, list[str]]:
    """The changes to look at, each with the zones that have it."""
    found: dict[Change, list[str]] = {}
    for name in all_zones():
        for change in changes(name, START, STOP, STEP):
            found.setdefault(change, []).append(name)
    if ALL:
        return found
    # What differs beyond the two offsets and the time of the day is the date alone.
    picked = {(change.before, change.after, (change.at + change.before) % DAY): change for change in sorted(found)}
    return {change: found[change][:1] for change in picked.values()}


def ours(cron: Cron, start: int, stop: int) -> list[int]:
    found = []
    at = cron.next_after(start * SECOND - 1)
    while at is not None and at < stop * SECOND:
        found.append(at // SECOND)
        at = cron.next_after(at)
    return found


@pytest.mark.parametrize("text", STEPPED)
def test_a_rhythm_matches_whenever_the_clock_shows_it(text):
    for change, names in kinds().items():
        start, stop = change.at - AROUND, change.at + AROUND
        wanted = moments(text, names[0], start, stop)

        for name in names:
            assert ours(Cron(text, name), start, stop) == wanted, (name, change)


@pytest.mark.parametrize("text", FIXED)
def test_a_time_of_the_day_comes_once_by_the_rules_for_gap_and_fold(text):
    for change, names in kinds().items():
        start, stop = change.at - AROUND, change.at + AROUND
        for gap, fold in POLICIES if ALL or text == FIXED[0] else POLICIES[:1]:
            wanted = moments(text, names[0], start, stop, gap=gap, fold=fold)

            for name in names:
                assert ours(Cron(text, name, gap, fold), start, stop) == wanted, (name, change, gap, fold)


@pytest.mark.parametrize("text", [*FIXED, *STEPPED])
def test_counting_agrees_with_walking(text):
    for change, names in kinds().items():
        for gap, fold in POLICIES if text in FIXED else POLICIES[:1]:
            cron = Cron(text, names[0], gap, fold)
            walked = ours(cron, change.at - AROUND, change.at + AROUND + 1)
            for start, stop in ((change.at - AROUND, change.at), (change.at - 1800, change.at + AROUND)):
                wanted = len([at for at in walked if start < at <= stop])

                assert cron.count(start * SECOND, stop * SECOND) == wanted, (names[0], change, gap, fold)


@pytest.mark.skipif(not ALL, reason="looks at each hour of eleven years in each zone; MUSKOX_TEST_ALL_ZONES=1 runs it")
def test_no_two_changes_of_a_zone_are_within_a_day_of_each_other():
    for name in all_zones():
        found = changes(name, START, STOP, 3600)

        assert found == changes(name, START, STOP, DAY), name
