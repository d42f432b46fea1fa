"""What becomes of moments: on time, late, missed; whatever the clock does, each is told once."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from muskox.core.cron import Cron
from muskox.core.schedule import MOST_AT_ONCE, Every, Once, Schedule, Told, plan

SECOND = 1_000_000
HOUR, DAY = 3600, 86_400
NOON = 1_780_315_200


def schedule(when=None, **changes: object) -> Schedule:
    return Schedule("report", "email", "send", when or Every(60), **changes)


def planned(found: Schedule, due: int, now: int) -> list[tuple[str, int, int]]:
    """What is told, with seconds after noon."""
    made = plan(found, (NOON + due) * SECOND, (NOON + now) * SECOND)
    return [(one.told.value, one.at_us // SECOND - NOON, one.missed) for one in made.moments]


def test_a_due_moment_fires():
    made = plan(schedule(), NOON * SECOND, NOON * SECOND + 3)

    assert [(one.told, one.at_us) for one in made.moments] == [(Told.FIRED, NOON * SECOND)]
    assert made.next_us == (NOON + 60) * SECOND


@pytest.mark.parametrize("early", [1, 1_000, 20_000])
def test_fault_t08_a_timer_that_is_early_changes_nothing(early):
    made = plan(schedule(), NOON * SECOND, NOON * SECOND - early)

    assert made.moments == ()
    assert made.next_us == NOON * SECOND


@pytest.mark.parametrize("when", [Every(60), Cron("* * * * *"), Cron("0 * * * * *", "Europe/Warsaw")])
def test_fault_t08_looking_early_and_late_by_turns_fires_each_moment_once(when):
    due, told = NOON * SECOND, []
    for turn in range(40):
        made = plan(schedule(when), due, due + (-1) ** turn * turn * 1000)
        told += [one.at_us for one in made.moments]
        due = made.next_us

    assert {after - before for before, after in pairwise(told)} == {60 * SECOND}


def test_what_is_late_within_the_grace_is_on_time():
    assert planned(schedule(grace=60), 60, 119) == [("fired", 60, 0)]
    assert planned(schedule(grace=60), 0, 60) == [("fired", 0, 0), ("fired", 60, 0)]
    assert planned(schedule(grace=60), 0, 61) == [("late", 0, 0), ("fired", 60, 0)]


def test_mission_b05_the_latest_is_caught_up():
    assert planned(schedule(), 0, 3 * HOUR + 59) == [
        ("missed", 3 * HOUR - 120, 179),
        ("late", 3 * HOUR - 60, 0),
        ("fired", 3 * HOUR, 0),
    ]


def test_mission_b05_none_is_caught_up():
    assert planned(schedule(catch_up=0), 0, 600 + 59) == [("missed", 540, 10), ("fired", 600, 0)]


def test_mission_b05_so_many_are_caught_up_oldest_first():
    assert planned(schedule(catch_up=3), 0, 600 + 59) == [
        ("missed", 360, 7),
        ("late", 420, 0),
        ("late", 480, 0),
        ("late", 540, 0),
        ("fired", 600, 0),
    ]


def test_mission_b05_all_are_caught_up_when_they_are_few():
    assert planned(schedule(catch_up=100), 0, 180 + 59) == [
        ("late", 0, 0),
        ("late", 60, 0),
        ("late", 120, 0),
        ("fired", 180, 0),
    ]


def test_a_missed_moment_says_why():
    made = plan(schedule(catch_up=0, grace=5), NOON * SECOND, (NOON + 10) * SECOND)

    assert made.moments[0].reason == "more than 5 s late; catch_up is 0"


def test_nothing_comes_after_the_end():
    found = schedule(ends_us=(NOON + 130) * SECOND, catch_up=5)

    made = plan(found, NOON * SECOND, (NOON + HOUR) * SECOND)

    assert [(one.told, one.at_us // SECOND - NOON) for one in made.moments] == [
        ("late", 0),
        ("late", 60),
        ("late", 120),
    ]
    assert made.next_us is None


def test_once_is_over_after_its_moment():
    made = plan(schedule(Once(NOON * SECOND)), NOON * SECOND, (NOON + DAY) * SECOND)

    assert [one.told for one in made.moments] == [Told.LATE]
    assert made.next_us is None


def test_the_due_moment_counts_though_the_rule_no_longer_has_it():
    assert planned(schedule(Cron("0 0 * * *")), 7, 8) == [("fired", 7, 0)]


def test_a_machine_that_slept_for_a_day_tells_it_by_the_policy():
    assert planned(schedule(Cron("0 * * * *")), 0, DAY + 61) == [("missed", 23 * HOUR, 24), ("late", DAY, 0)]


def test_a_clock_set_back_by_an_hour_fires_nothing_again():
    made = plan(schedule(), NOON * SECOND, NOON * SECOND)

    back = plan(schedule(), made.next_us, (NOON - HOUR) * SECOND)

    assert back.moments == ()
    assert back.next_us == made.next_us


@pytest.mark.parametrize("when", [Every(1), Every(0.1), Cron("* * * * * *"), Cron("* * * * * *", "America/New_York")])
@pytest.mark.parametrize("years", [10, 400])
def test_after_years_of_downtime_the_work_is_small_and_the_count_exact(when, years):
    found = schedule(when, catch_up=10, grace=2)
    now = (NOON + years * 366 * DAY) * SECOND

    made = plan(found, NOON * SECOND, now)

    assert sum(one.missed for one in made.moments) + len(made.moments) - 1 == 1 + when.count(NOON * SECOND, now)
    assert [one.told for one in made.moments[:11]] == [Told.MISSED] + 10 * [Told.LATE]
    assert made.next_us > now


def test_more_on_time_than_fit_into_a_plan_are_left_to_the_next():
    found = schedule(Every(1), grace=3 * HOUR)
    now = (NOON + 2 * HOUR) * SECOND

    due, told = NOON * SECOND, []
    while due <= now:
        made = plan(found, due, now)
        assert len(made.moments) <= MOST_AT_ONCE
        told += [one.at_us // SECOND - NOON for one in made.moments]
        due = made.next_us

    assert told == list(range(2 * HOUR + 1))


WHENS = st.one_of(
    st.builds(Every, st.floats(0.1, 5000), st.integers(0, 10**9)),
    st.sampled_from(
        [
            Cron("* * * * *"),
            Cron("*/10 * * * * *", "Europe/Warsaw"),
            Cron("30 2 * * *", "Europe/Warsaw"),
            Cron("0,30 0-3 * * *", "Australia/Lord_Howe", fold="both"),
            Cron("0 0 L * *", "Pacific/Apia", fold="second"),
            Once(NOON * SECOND),
        ]
    ),
)
NOW = st.integers(0, 40 * DAY).map(lambda ahead: (NOON + ahead) * SECOND)


@given(WHENS, st.lists(NOW, min_size=1, max_size=8), st.integers(0, 5), st.floats(0, 300))
def test_each_moment_is_told_once_whenever_one_looks(when, looks, catch_up, grace):
    found = schedule(when, catch_up=catch_up, grace=grace)
    start = due = found.first_after(NOON * SECOND - 1)
    told, fired = 0, []
    for now in looks:  # in any order: the clock may be set back
        while due is not None and due <= now:
            made = plan(found, due, now)
            told += sum(one.missed or 1 for one in made.moments)
            fired += [one.at_us for one in made.moments if one.told is not Told.MISSED]
            due = made.next_us

    assert told == when.count(start - 1, max(looks))
    assert fired == sorted(set(fired))
    assert due == found.first_after(max(start - 1, *looks))


@given(WHENS, NOW, st.integers(0, 5), st.integers(0, 300))
def test_a_plan_keeps_to_the_policy(when, now, catch_up, grace):
    found = schedule(when, catch_up=catch_up, grace=grace)
    due = found.first_after(NOON * SECOND - 1)

    moments = plan(found, due, now).moments

    late_until = now - grace * SECOND - 1
    missed = [one for one in moments if one.told is Told.MISSED]
    late = [one.at_us for one in moments if one.told is Told.LATE]
    fired = [one.at_us for one in moments if one.told is Told.FIRED]
    assert len(missed) <= 1
    assert len(late) == min(catch_up, max(0, when.count(due - 1, late_until)))
    assert all(at <= late_until for at in late)
    assert all(late_until < at <= now for at in fired)
    assert [one.at_us for one in moments] == sorted({one.at_us for one in moments})
    # The missed one is the last before the late ones, with no moment between.
    assert all(when.next_after(one.at_us) == [*late, *fired, when.next_after(max(one.at_us, now))][0] for one in missed)


@given(WHENS, st.lists(NOW, min_size=1, max_size=6))
def test_looking_often_fires_what_looking_once_fires(when, looks):
    found = schedule(when, grace=41 * DAY)
    start = found.first_after(NOON * SECOND - 1)

    def fired(looks):
        due, moments = start, []
        for now in looks:
            while due is not None and due <= now and len(moments) < 5000:
                made = plan(found, due, now)
                moments += [one.at_us for one in made.moments]
                due = made.next_us
        return moments[:5000]

    assert fired(sorted(looks)) == fired([max(looks)])
