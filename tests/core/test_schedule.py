"""Schedules: what is allowed, and the moments of Every and Once."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from muskox.core.cron import Cron
from muskox.core.errors import OptionError
from muskox.core.schedule import Every, Once, Overlap, Owner, Schedule, check_schedule_name

SECOND = 1_000_000
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOON_US = 1_780_315_200 * SECOND


def schedule(**changes: object) -> Schedule:
    return Schedule(**{"name": "report", "queue": "email", "job": "send", "when": Every(10), **changes})


# --- every -------------------------------------------------------------------------------------------


def test_mission_b02_every_is_anchored():
    found = Every(10, anchor_us=NOON_US + 3 * SECOND).preview(3, after=NOON)

    assert [at.second for at in found] == [3, 13, 23]


@given(st.floats(0.1, 1e6), st.integers(-(10**15), 10**15), st.integers(-(10**16), 10**16), st.integers(1, 10**5))
def test_mission_b02_every_does_not_drift(seconds, anchor_us, at_us, steps):
    every = Every(seconds, anchor_us)
    first = every.next_after(at_us)

    far = every.next_after(first + steps * every.step_us - 1)

    assert 0 < first - at_us <= every.step_us
    assert (first - anchor_us) % every.step_us == 0
    assert far == first + steps * every.step_us
    assert every.count(first - 1, far) == steps + 1


@pytest.mark.parametrize("seconds", [0, -1, 0.09, math.inf, math.nan, 1e12, "10", None, True])
def test_fault_t07_an_interval_that_cannot_be_is_refused(seconds):
    with pytest.raises(OptionError, match=r"every must be 0\.1 to"):
        Every(seconds)


@pytest.mark.parametrize("at", [1.5, "noon", None, True, 10**30, -(10**30), math.nan])
def test_fault_t07_a_moment_that_cannot_be_is_refused(at):
    with pytest.raises(OptionError, match="whole number"):
        Once(at)
    with pytest.raises(OptionError, match="whole number"):
        Every(1, anchor_us=at)


@pytest.mark.parametrize("at", [-(10**30), -1, 0, 2**31 * SECOND, 4_102_444_800 * SECOND])
def test_fault_t07_every_goes_on_in_any_year(at):
    assert Every(10).next_after(at) is not None
    assert Every(10).next_after(10**30) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1, "Every second"),
        (10, "Every 10 seconds"),
        (0.5, "Every 0.5 seconds"),
        (60, "Every minute"),
        (90, "Every 90 seconds"),
        (7200, "Every 2 hours"),
        (86_400, "Every day"),
    ],
)
def test_every_is_told_in_words(seconds, said):
    assert Every(seconds).explain() == said


# --- once ---------------------------------------------------------------------------------------------


def test_mission_b02_once_has_one_moment():
    once = Once(NOON_US)

    assert once.next_after(NOON_US - 1) == NOON_US
    assert once.next_after(NOON_US) is None
    assert once.preview(5, after=datetime(2026, 1, 1, tzinfo=UTC)) == [NOON]
    assert once.explain() == "Once at 2026-06-01 12:00:00 UTC"


# --- schedules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "billing/monthly", "a:b.c_d-e", "x" * 128])
def test_a_name_may_have_colons_and_slashes(name):
    assert schedule(name=name).name == check_schedule_name(name)


@pytest.mark.parametrize("name", ["", "x" * 129, "a b", "ä", "a\n", None, 1])
def test_another_name_is_refused(name):
    with pytest.raises(OptionError, match="schedule name"):
        schedule(name=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"queue": "a b"},
        {"job": ""},
        {"when": "0 9 * * *"},
        {"data": {"a": 1}},
        {"options": None},
        {"priority": 1.5},
        {"priority": 2**40},
        {"catch_up": -1},
        {"catch_up": 1001},
        {"catch_up": True},
        {"grace": -1},
        {"grace": math.nan},
        {"grace": math.inf},
        {"jitter": -0.1},
        {"jitter": "1"},
        {"overlap": "cancel"},
        {"owner": "me"},
        {"starts_us": 1.5},
        {"ends_us": 10**30},
        {"starts_us": 2, "ends_us": 1},
    ],
)
def test_a_wrong_value_is_refused(changes):
    with pytest.raises(OptionError):
        schedule(**changes)


def test_moments_stay_within_start_and_end():
    found = schedule(starts_us=NOON_US, ends_us=NOON_US + 10 * SECOND)

    assert found.first_after(0) == NOON_US
    assert found.first_after(NOON_US) == NOON_US + 10 * SECOND
    assert found.first_after(NOON_US + 10 * SECOND) is None


def test_a_job_id_tells_schedule_generation_and_moment():
    assert schedule(name="a:b").job_id(3, NOON_US) == f"schedule:a:b:3:{NOON_US}"
    assert len(schedule(name="x" * 128).job_id(2**63, 10**18)) <= 255


@pytest.mark.parametrize("when", [Cron("0 9 * * MON", "Europe/Vienna"), Every(2.5, NOON_US), Once(NOON_US)])
def test_it_survives_storing(when):
    found = schedule(when=when, overlap=Overlap.QUEUE, owner=Owner.CODE, starts_us=5)

    assert msgspec.json.decode(msgspec.json.encode(found), type=Schedule) == found
