"""What is refused of schedules, where it is written: expressions, options, moments, names, declarations."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from muskox import DeclarationError, Dedup, OptionError, ScheduleNotFound

START = datetime(2026, 1, 1, tzinfo=UTC)
NAIVE = datetime(2027, 1, 1)  # noqa: DTZ001 - it must be refused


async def _nothing() -> None: ...


async def _report(n: int) -> None: ...


@pytest.mark.parametrize(
    "expression", ["* * * *", "* * * * * * *", "61 * * * * *", "0 0 31 2 *", "", "a b c d e", "60 * * * *", "0 0 0 * *"]
)
async def test_an_expression_that_cannot_be_meant_is_refused_where_it_is_written(ox, expression):
    with pytest.raises(OptionError):
        ox.cron(expression)
    with pytest.raises(OptionError):
        await ox.schedules.add_cron("x", expression, queue="work", job="count")
    with pytest.raises(OptionError):
        ox.schedules.preview(expression)
    assert await ox.schedules.list() == []


WRONG = [
    ({"tz": "Europe/Atlantis"}, "Atlantis"),
    ({"starts_at": NAIVE}, "time zone"),
    ({"ends_at": datetime(2025, 1, 1, tzinfo=UTC)}, "never fire"),
    ({"starts_at": START + timedelta(2), "ends_at": START + timedelta(1)}, "before it starts"),
    ({"catch_up": "all"}, '"none", "one" or a whole number'),
    ({"catch_up": -1}, "catch_up"),
    ({"catch_up": 1_000_000}, "catch_up"),
    ({"overlap": "kill"}, "allow, skip, queue"),
    ({"grace": -1}, "grace"),
    ({"jitter": float("nan")}, "jitter"),
    ({"gap": "before"}, "gap"),
    ({"fold": "third"}, "fold"),
    ({"attempts": 0}, "attempts"),
    ({"colour": "red"}, "colour"),
    ({"queue": "no queue"}, "queue name"),
    ({"job": ""}, "job name"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
async def test_an_option_that_cannot_be_meant_is_refused(ox, wrong, said):
    given = {"queue": "work", "job": "count", **wrong}

    with pytest.raises(OptionError, match=re.escape(said)):
        await ox.schedules.add_cron("x", "* * * * *", **given)

    assert await ox.schedules.list() == []


@pytest.mark.parametrize("interval", [0, -5, float("inf"), float("nan"), "often", timedelta(0)])
async def test_an_interval_that_cannot_be_meant_is_refused(ox, interval):
    with pytest.raises(OptionError):
        ox.every(interval)
    with pytest.raises(OptionError):
        await ox.schedules.add_every("x", interval, queue="work", job="count")


@pytest.mark.parametrize(
    "when",
    [
        {}, {"after": 5, "at": START}, {"after": -1}, {"at": NAIVE}, {"at": "tomorrow"},
        {"at": START - timedelta(1)},
    ],
)  # fmt: skip
async def test_a_moment_that_cannot_be_meant_is_refused(ox, when):
    with pytest.raises(OptionError):
        await ox.schedules.add_once("x", queue="work", job="count", **when)


async def test_a_name_that_is_none_or_is_not_there_is_refused(ox):
    with pytest.raises(OptionError):
        await ox.schedules.add_every("no name", 5, queue="work", job="count")
    for verb in (ox.schedules.pause, ox.schedules.resume, ox.schedules.run_now, ox.schedules.update):
        with pytest.raises(ScheduleNotFound, match="there is no schedule 'nothing'"):
            await verb("nothing")


def test_a_declaration_that_cannot_work_is_refused(ox):
    ox.every(60, name="beat")(_nothing)

    with pytest.raises(DeclarationError, match="declared already"):
        ox.cron("* * * * *", name="beat", queue="other")(_nothing)
    with pytest.raises(DeclarationError, match="give data="):
        ox.every(60, name="fed")(_report)
    with pytest.raises(OptionError, match="colour"):
        ox.every(60, name="red", colour="red")(_nothing)
    with pytest.raises(OptionError, match="attempts says nothing"):
        ox.every(60, name="alone", per_process=True, attempts=3)(_nothing)
    with pytest.raises(OptionError, match="overlap"):
        ox.every(60, name="alone", per_process=True, overlap="queue")(_nothing)
    with pytest.raises(OptionError, match="key says nothing"):
        ox.every(60, name="alone", per_process=True, key="acme")(_nothing)
    with pytest.raises(OptionError, match="dedup says nothing"):
        ox.every(60, name="alone", per_process=True, dedup="alone")(_nothing)
    with pytest.raises(OptionError, match="is not allowed; use 1 to 255"):
        ox.every(60, name="long", key="k" * 10_000)(_nothing)
    with pytest.raises(OptionError, match="nobody to tell"):
        ox.every(60, name="loud", dedup=Dedup("loud", then="reject"))(_nothing)
