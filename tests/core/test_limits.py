"""Limits as values: what they refuse, what holds in the end, and the arithmetic of the bucket."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from muskox.core.errors import OptionError, RateLimited
from muskox.core.limits import UNLIMITED, KeyLimits, Limits, Rate

NOW = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Rate(0), "rate limit must be between 1 and 1000000000, not 0; leave the rate out for no limit"),
        (lambda: Rate(True), "rate limit must be a whole number, not True"),
        (lambda: Rate(1.5), "rate limit must be a whole number, not 1.5"),
        (lambda: Rate(10**9, per=1e-300), "per must be at least 0.001 seconds"),
        (lambda: Rate(1, per=0), "per must be at least 0.001 seconds and at most a year, not 0"),
        (lambda: Rate(1, per=math.nan), "per must be at least 0.001 seconds and at most a year, not nan"),
        (lambda: Rate(1, per=1e9), "per must be at least 0.001 seconds and at most a year"),
        (lambda: Rate(1, burst=0), "burst must be between 1 and 1000000000, not 0; 1 spreads the starts evenly"),
        (lambda: Limits(rate=5), r"rate must be a Rate such as Rate\(100, per=60\), not 5"),
        (lambda: Limits(key_rate="5/s"), "key_rate must be a Rate"),
        (lambda: Limits(concurrency=0), "concurrency must be between 1 and 1000000000, not 0"),
        (lambda: Limits(key_concurrency=-1), "key_concurrency must be between 1"),
        (lambda: KeyLimits(concurrency=0), "concurrency must be .*'unlimited' takes the queue's default away"),
        (lambda: KeyLimits(rate=5), "rate must be a Rate"),
        (lambda: KeyLimits(weight=0), "weight must be between 1 and 100, not 0; 1 is usual"),
        (lambda: RateLimited(retry_after=-1), "retry_after must be between 0"),
        (lambda: RateLimited(retry_after=1, hold="all"), "hold must be 'job', 'key' or 'queue', not 'all'"),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be_kept_is_refused_where_it_is_said(make, said):
    with pytest.raises(OptionError, match=said):
        make()


@pytest.mark.parametrize(
    ("own", "rate", "concurrency"),
    [
        (KeyLimits(), Rate(5), 2),
        (KeyLimits(rate=Rate(9), concurrency=7), Rate(9), 7),
        (KeyLimits(rate=UNLIMITED, concurrency=UNLIMITED), None, None),
    ],
)
def test_what_is_said_of_a_key_holds_in_place_of_the_defaults(own, rate, concurrency):
    limits = Limits(key_rate=Rate(5), key_concurrency=2)

    assert (own.rate_under(limits), own.concurrency_under(limits)) == (rate, concurrency)


@pytest.mark.parametrize(
    ("rate", "size"),
    [(Rate(1), 1), (Rate(100, per=60), 1), (Rate(1000), 50), (Rate(1000, per=10), 5), (Rate(1, burst=7), 7)],
)
def test_without_a_burst_a_twentieth_of_a_second_may_start_together(rate, size):
    assert rate.size == size


def test_a_new_bucket_is_full_and_fills_up_again_token_by_token():
    rate = Rate(2, per=10, burst=3)
    empty = rate.taken(0, NOW, 3)

    assert rate.tokens(0, NOW) == 3
    assert [rate.tokens(empty, NOW + seconds * 1_000_000) for seconds in (0, 4, 5, 10, 15, 900)] == [0, 0, 1, 2, 3, 3]
    assert [rate.next_at(empty, NOW + seconds * 1_000_000) for seconds in (0, 4, 5)] == [NOW + 5_000_000] * 2 + [None]


def test_a_bucket_of_the_future_makes_nobody_wait_longer_than_for_one_token():
    rate = Rate(1, per=10)
    empty = rate.taken(0, NOW, 1)
    back = NOW - 3_600_000_000

    assert rate.tokens(empty, back) == 0
    assert rate.next_at(empty, back) == back + 10_000_000


rates = st.builds(Rate, st.integers(1, 10**6), per=st.floats(0.01, 10**6), burst=st.none() | st.integers(1, 1000))


@given(rates, st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 60)), max_size=30))
def test_in_no_window_more_are_taken_than_rate_and_burst_allow(rate, steps):
    now, empty, taken = NOW, 0.0, []
    for passed, wanted in steps:
        now += passed
        count = min(wanted, rate.tokens(empty, now))
        empty = rate.taken(empty, now, count) if count else empty
        taken.append((now, count))

    for first, (start, _) in enumerate(taken):
        for end, _ in taken[first:]:
            # Moments in microseconds are exact to a quarter of one as numbers with fractions, in each step.
            most = rate.size + (end - start) / rate.interval + len(taken) * 0.25 / rate.interval + 1e-3
            assert sum(count for moment, count in taken if start <= moment <= end) <= most


@given(rates, st.integers(0, 10**9), st.integers(1, 1000))
@example(Rate(201), 0, 10)
def test_there_is_a_token_when_it_was_said_to_come_and_none_before(rate, passed, wanted):
    now = NOW + passed
    empty = rate.taken(0, NOW, min(wanted, rate.size))
    next_at = rate.next_at(empty, now)

    assert (next_at is None) == (rate.tokens(empty, now) > 0)
    if next_at is not None:
        assert next_at > now
        assert rate.tokens(empty, next_at) >= 1
