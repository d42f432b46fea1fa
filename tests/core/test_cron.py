"""Cron by example: what is read, what is refused and how, and the days on which the clock is changed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import msgspec
import pytest

from muskox.core.cron import Cron
from muskox.core.errors import OptionError

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def shown(cron: Cron, n: int, after: datetime = NEW_YEAR) -> list[str]:
    return [f"{at:%a %d %b %H:%M:%S}" for at in cron.preview(n, after=after)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30 9 * * *", ["Thu 01 Jan 09:30:00", "Fri 02 Jan 09:30:00"]),
        ("0 0 9 * * 1", ["Mon 05 Jan 09:00:00", "Mon 12 Jan 09:00:00"]),
        ("*/30 * * * * *", ["Thu 01 Jan 00:00:30", "Thu 01 Jan 00:01:00"]),
        ("0 9 * jan,Mar MON", ["Mon 05 Jan 09:00:00", "Mon 12 Jan 09:00:00"]),
        (
            "0 0 * * FRI-MON",
            [f"{day} Jan 00:00:00" for day in ("Fri 02", "Sat 03", "Sun 04", "Mon 05", "Fri 09")],
        ),
        ("0 0 * * 7", ["Sun 04 Jan 00:00:00", "Sun 11 Jan 00:00:00"]),
        ("0 0 * * 5-7", ["Fri 02 Jan 00:00:00", "Sat 03 Jan 00:00:00", "Sun 04 Jan 00:00:00", "Fri 09 Jan 00:00:00"]),
        ("0 0 L * *", ["Sat 31 Jan 00:00:00", "Sat 28 Feb 00:00:00"]),
        ("0 0 LW * *", ["Fri 30 Jan 00:00:00", "Fri 27 Feb 00:00:00"]),
        ("0 0 * * 5L", ["Fri 30 Jan 00:00:00", "Fri 27 Feb 00:00:00"]),
        ("0 0 * * FRIL", ["Fri 30 Jan 00:00:00", "Fri 27 Feb 00:00:00"]),
        ("0 0 * * MON#2", ["Mon 12 Jan 00:00:00", "Mon 09 Feb 00:00:00"]),
        ("0 0 ? * WED", ["Wed 07 Jan 00:00:00", "Wed 14 Jan 00:00:00"]),
        ("0 0 15 * ?", ["Thu 15 Jan 00:00:00", "Sun 15 Feb 00:00:00"]),
        ("10/20 0 * * *", ["Thu 01 Jan 00:10:00", "Thu 01 Jan 00:30:00", "Thu 01 Jan 00:50:00", "Fri 02 Jan 00:10:00"]),
        ("5-5/3 0 * * *", ["Thu 01 Jan 00:05:00", "Fri 02 Jan 00:05:00"]),
        ("@hourly", ["Thu 01 Jan 01:00:00", "Thu 01 Jan 02:00:00"]),
        ("@Daily", ["Fri 02 Jan 00:00:00", "Sat 03 Jan 00:00:00"]),
        ("@weekly", ["Sun 04 Jan 00:00:00", "Sun 11 Jan 00:00:00"]),
        ("@monthly", ["Sun 01 Feb 00:00:00", "Sun 01 Mar 00:00:00"]),
        ("@yearly", ["Fri 01 Jan 00:00:00", "Sat 01 Jan 00:00:00"]),
    ],
)
def test_mission_b01_expressions_of_five_and_six_fields(text, wanted):
    assert shown(Cron(text), len(wanted)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0 0 13 * FRI", ["Fri 02", "Fri 09", "Tue 13", "Fri 16"]),
        ("0 0 */2 * FRI", ["Fri 09", "Fri 23", "Fri 13", "Fri 27"]),
        ("0 0 13 * *", ["Tue 13", "Fri 13", "Fri 13", "Mon 13"]),
    ],
)
def test_days_match_by_either_field_unless_one_begins_with_a_star(text, wanted):
    assert [f"{at:%a %d}" for at in Cron(text).preview(4, after=NEW_YEAR)] == wanted


@pytest.mark.parametrize(
    "text", [getattr(Cron, name) for name in dir(Cron) if name.isupper() and not name.startswith("_")]
)
def test_mission_b01_each_named_expression_is_one(text):
    assert len(Cron(text).preview(2, after=NEW_YEAR)) == 2


def test_mission_b01_the_names_say_what_they_do():
    assert shown(Cron(Cron.EVERY_SECOND), 1) == ["Thu 01 Jan 00:00:01"]
    assert shown(Cron(Cron.EVERY_WEEK), 1) == ["Sun 04 Jan 00:00:00"]
    assert shown(Cron(Cron.EVERY_DAY_AT_MIDNIGHT), 1) == ["Fri 02 Jan 00:00:00"]
    assert shown(Cron(Cron.WEEKDAYS_AT_9), 3) == ["Thu 01 Jan 09:00:00", "Fri 02 Jan 09:00:00", "Mon 05 Jan 09:00:00"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("", "has 0 fields"),
        ("61 * * * * *", "second '61'"),
        ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of month '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "day of week '8'"),
        ("* * * foo *", "month 'FOO'"),
        ("* * 15W * *", "day of month '15W'"),
        ("* * * * L", "day of week 'L'"),
        ("* * * * 1#6", "day of week '1#6'"),
        ("*/0 * * * *", "step '0'"),
        ("*/90 * * * *", "step '90'"),
        ("1,,2 * * * *", "minute ''"),
        ("? * * * *", "minute '?'"),
        ("-1 * * * *", "minute '-1'"),
        ("* 22-4 * * *", "write 22-23,0-4"),
        ("0 0 31 2 *", "no moment ever"),
        ("0 0 30,31 FEB ?", "no moment ever"),
        ("0 0 31 4,6,9,11 *", "no moment ever"),
        ("@reboot", "known are @yearly"),
        (None, "must be text"),
    ],
)
def test_fault_c07_a_wrong_expression_is_refused_with_the_field_and_what_is_allowed(text, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        Cron(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "America", "", "../UTC", "Europe/Vienna\0", "vienna", None, 1])
def test_an_unknown_zone_is_refused(name):
    with pytest.raises(OptionError, match=r"time zone|tz must be"):
        Cron("* * * * *", name)


def test_gap_and_fold_must_be_one_of_their_words():
    with pytest.raises(OptionError, match="gap must be one of after, skip"):
        Cron("* * * * *", gap="before")
    with pytest.raises(OptionError, match="fold must be one of first, second, both"):
        Cron("* * * * *", fold="none")


def test_fault_c07_an_expression_that_names_only_missing_times_is_refused():
    with pytest.raises(OptionError, match="no moment ever in America/New_York"):
        Cron("*/5 2 * MAR SUN#2", "America/New_York")


# --- daylight saving -------------------------------------------------------------------------------

WARSAW = "Europe/Warsaw"
SPRING = datetime(2026, 3, 28, 22, tzinfo=UTC)  # 02:00 becomes 03:00 on the 29th
AUTUMN = datetime(2026, 10, 24, 21, tzinfo=UTC)  # 03:00 becomes 02:00 on the 25th


def utc(cron: Cron, n: int, after: datetime) -> list[str]:
    return [f"{at.astimezone(UTC):%d %H:%M:%S}" for at in cron.preview(n, after=after)]


@pytest.mark.parametrize("text", ["30 2 * * *", "0 30 2 * * *"])
def test_fault_t05_a_time_in_the_gap_runs_once_right_after_it(text):
    assert utc(Cron(text, WARSAW), 2, SPRING) == ["29 01:00:00", "30 00:30:00"]


@pytest.mark.parametrize("text", ["0,15,30,45 2 * * *", "0,30 0,30 2,3 * * *"])
def test_fault_t05_many_times_in_one_gap_are_made_up_for_by_one_moment(text):
    found = utc(Cron(text, WARSAW), 2, SPRING)

    assert found[0] == "29 01:00:00"
    assert found[1] != found[0]


def test_fault_t05_a_time_in_the_gap_may_be_skipped():
    assert utc(Cron("30 2 * * *", WARSAW, gap="skip"), 1, SPRING) == ["30 00:30:00"]


@pytest.mark.parametrize("text", ["30 2 * * *", "0 30 2 * * *"])
@pytest.mark.parametrize(
    ("fold", "wanted"),
    [
        ("first", ["25 00:30:00", "26 01:30:00"]),
        ("second", ["25 01:30:00", "26 01:30:00"]),
        ("both", ["25 00:30:00", "25 01:30:00", "26 01:30:00"]),
    ],
)
def test_fault_t05_a_time_that_comes_twice_runs_by_the_fold(text, fold, wanted):
    assert utc(Cron(text, WARSAW, fold=fold), len(wanted), AUTUMN) == wanted


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
@pytest.mark.parametrize("text", ["*/10 * * * *", "0 */10 * * * *"])
def test_fault_t05_every_ten_minutes_are_ten_real_minutes(start, text):
    found = Cron(text, WARSAW).preview(60, after=start)

    assert {(after.astimezone(UTC) - before.astimezone(UTC)) for before, after in pairwise(found)} == {
        timedelta(minutes=10)
    }


def test_fault_t06_half_an_hour_of_daylight_saving():
    lord_howe = Cron("15 2 * * *", "Australia/Lord_Howe")

    spring = lord_howe.preview(1, after=datetime(2026, 10, 3, 14, tzinfo=UTC))
    autumn = Cron("45 1 * * *", "Australia/Lord_Howe").preview(2, after=datetime(2026, 4, 4, 12, tzinfo=UTC))

    assert [at.isoformat() for at in spring] == ["2026-10-04T02:30:00+11:00"]
    assert [at.isoformat() for at in autumn] == ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]


def test_fault_t06_a_day_that_was_not_there_is_made_up_for_once():
    found = Cron("0 9 * * *", "Pacific/Apia").preview(3, after=datetime(2011, 12, 29, 12, tzinfo=UTC))

    assert [at.isoformat() for at in found] == [
        "2011-12-29T09:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T09:00:00+14:00",
    ]


def test_fault_t06_a_day_that_was_not_there_may_be_skipped():
    found = Cron("0 9 * * *", "Pacific/Apia", gap="skip").preview(2, after=datetime(2011, 12, 29, 12, tzinfo=UTC))

    assert [at.day for at in found] == [29, 31]


# --- far moments, and what it looks like ----------------------------------------------------------------


@pytest.mark.parametrize("at", [-(10**20), -62_135_596_800_000_000, -1, 0, 2**31 * 10**6, 4_102_444_800_000_000])
def test_fault_t07_any_moment_has_a_next_one(at):
    found = Cron("30 2 * * *", WARSAW).next_after(at)

    assert found is not None
    assert found > at


@pytest.mark.parametrize("at", [253_402_300_799_000_000, 10**18, 10**30])
def test_fault_t07_there_is_nothing_after_the_year_9999(at):
    assert Cron("30 2 * * *", WARSAW).next_after(at) is None
    assert Cron("* * * * * *").next_after(at) is None


def test_fault_c07_leap_days_are_found_over_a_century_without_one():
    found = Cron("0 0 29 2 *").preview(2, after=datetime(2096, 1, 1, tzinfo=UTC))

    assert [at.year for at in found] == [2096, 2104]


def test_it_is_told_in_words_with_the_zone():
    assert Cron("0 0 9 * * 1", "Europe/Vienna").explain() == "At 09:00 on Monday, Europe/Vienna"
    assert Cron("*/5 * * * *").explain() == "Every fifth minute of every hour, UTC"
    assert "both times" in Cron("30 2 * * *", WARSAW, fold="both").explain()
    assert "not at all" in Cron("30 2 * * *", WARSAW, gap="skip").explain()


def test_a_preview_is_in_the_zone_of_the_schedule():
    [found] = Cron("0 9 * * *", "Asia/Tokyo").preview(
        1, after=datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    )

    assert found.isoformat() == "2026-01-02T09:00:00+09:00"


def test_a_preview_wants_a_zone_and_a_number():
    with pytest.raises(OptionError, match="time zone"):
        Cron("* * * * *").preview(1, after=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(OptionError, match="1 to"):
        Cron("* * * * *").preview(0, after=NEW_YEAR)


def test_it_survives_storing():
    cron = Cron("0 9 * * MON", "Europe/Vienna", fold="both")

    assert msgspec.json.decode(msgspec.json.encode(cron), type=Cron) == cron


@pytest.mark.parametrize(
    ("text", "spring", "autumn"),
    [
        ("30 2 * * *", 1, 1),
        ("0 2,3 * * *", 1, 2),
        ("0 * * * *", 23, 25),
        ("*/10 * * * *", 23 * 6, 25 * 6),
        ("*/10 2 * * *", 0, 12),
        ("0 */2 * * *", 11, 13),
        ("0 0-23 * * *", 23, 24),
    ],
)
def test_fault_t05_a_day_has_as_many_moments_as_the_page_on_daylight_saving_says(text, spring, autumn):
    def on(day: datetime) -> int:
        return len([at for at in Cron(text, WARSAW).preview(400, after=day) if at.date() == day.date() + timedelta(1)])

    assert on(SPRING) == spring
    assert on(AUTUMN) == autumn
