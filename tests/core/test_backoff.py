"""Delays between attempts: examples from the docs, and properties over all rules."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from muskox.core.backoff import LONGEST, Exponential, Fixed, Steps
from muskox.core.errors import OptionError

SECONDS = st.floats(0, LONGEST)
JITTER = st.floats(0, 1)
ATTEMPT = st.integers(1, 10**9)
CHANCE = st.floats(0, 1, exclude_max=True)
RULES = st.one_of(
    st.builds(Fixed, SECONDS, JITTER),
    st.builds(Exponential, SECONDS, st.floats(1, 1e300), SECONDS, JITTER),
    st.builds(Exponential, st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 1000), JITTER),
    st.builds(Steps, st.lists(SECONDS, min_size=1, max_size=5).map(tuple), JITTER),
)


def delays(rule, count=5):
    return [rule.delay(attempt, 0.5) for attempt in range(1, count + 1)]


def test_mission_a11_fixed_waits_the_same_each_time():
    assert delays(Fixed(2)) == [2, 2, 2, 2, 2]


def test_mission_a11_exponential_doubles():
    assert delays(Exponential(2)) == [2, 4, 8, 16, 32]


def test_exponential_stops_at_its_cap():
    assert delays(Exponential(10, factor=3, cap=100)) == [10, 30, 90, 100, 100]


def test_steps_repeat_the_last_one():
    assert delays(Steps((1, 10, 60))) == [1, 10, 60, 60, 60]


def test_jitter_spreads_both_ways():
    assert [Fixed(10, jitter=0.2).delay(1, chance) for chance in (0.0, 0.5, 0.75)] == [8, 10, 11]


@given(RULES, ATTEMPT, CHANCE)
def test_fault_d10_no_rule_gives_less_than_nothing_or_more_than_the_longest(rule, attempt, chance):
    assert 0 <= rule.delay(attempt, chance) <= LONGEST


@given(st.builds(Exponential, SECONDS, st.floats(1, 1e300), SECONDS), ATTEMPT, CHANCE)
def test_exponential_never_shrinks_and_never_passes_its_cap(rule, attempt, chance):
    now, later = rule.delay(attempt, chance), rule.delay(attempt + 1, chance)

    assert now <= later <= rule.cap


@given(SECONDS, JITTER, CHANCE, ATTEMPT)
def test_jitter_stays_within_its_share(seconds, jitter, chance, attempt):
    delay = Fixed(seconds, jitter).delay(attempt, chance)

    assert seconds * (1 - jitter) - 1e-6 <= delay <= seconds * (1 + jitter) + 1e-6


@given(st.floats(1, 1e300), ATTEMPT, CHANCE)
def test_no_seconds_stay_no_seconds(factor, attempt, chance):
    assert Exponential(0, factor).delay(attempt, chance) == 0


@given(RULES)
def test_a_rule_survives_being_stored(rule):
    text = msgspec.json.encode(rule)

    assert msgspec.json.decode(text, type=Fixed | Exponential | Steps) == rule


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Fixed(-1), "seconds"),
        (lambda: Fixed(float("nan")), "seconds"),
        (lambda: Fixed(float("inf")), "seconds"),
        (lambda: Fixed("2"), "seconds"),
        (lambda: Fixed(1, jitter=1.1), "jitter"),
        (lambda: Fixed(1, jitter=-0.1), "jitter"),
        (lambda: Fixed(1, jitter=float("nan")), "jitter"),
        (lambda: Exponential(2, factor=0.5), "factor"),
        (lambda: Exponential(2, factor=float("inf")), "factor"),
        (lambda: Exponential(2, factor="2"), "factor"),
        (lambda: Exponential(2, cap=LONGEST + 1), "cap"),
        (lambda: Steps(()), "steps are empty"),
        (lambda: Steps((1, -1)), "step"),
    ],
)
def test_fault_d10_a_rule_that_cannot_work_is_refused_when_it_is_made(make, what):
    with pytest.raises(OptionError, match=what):
        make()
