"""The commands of `muskox schedules`, on the small program with a schedule in it."""

from __future__ import annotations

import json

import pytest

DECLARED = """

@ox.cron("0 0 9 * * 1", tz="Europe/Vienna", name="weekly")
def weekly() -> None: ...


@ox.every(3600, name="with:colon/and-more")
def hourly() -> None: ...
"""


@pytest.fixture(autouse=True)
def scheduled(program, run):
    """The program with two schedules, put into its store as a worker does."""
    program.write_text(program.read_text() + DECLARED + PUT)
    assert run("queues", "list", "jobs:ox").exit_code == 0
    return program


LATER = """
from muskox import Muskox

ox = Muskox()


@ox.cron("0 0 9 * * 1", tz="Europe/Vienna", name="weekly")
def weekly() -> None: ...
"""

PUT = """

from muskox.testing import run_jobs_sync

run_jobs_sync(ox)
ox.sync.close()
"""


def test_the_schedules_are_listed(run):
    said = run("schedules", "list", "jobs:ox").stdout
    weekly, hourly = json.loads(run("schedules", "list", "jobs:ox", "--json").stdout)

    assert "At 09:00" in said
    assert "Every hour" in said
    assert (weekly["name"], weekly["owner"], weekly["when"]["tz"]) == ("weekly", "code", "Europe/Vienna")
    assert (hourly["name"], hourly["paused"], hourly["last_at"]) == ("with:colon/and-more", False, None)


def test_an_empty_store_has_none(run):
    assert "has no schedule" in run("schedules", "list", "--url", "sqlite:///other.db").stdout


def test_an_expression_is_previewed_without_a_store(run):
    args = ("0 30 2 * * *", "--tz", "Europe/Warsaw", "--after", "2026-03-27T12:00", "--count", "3")

    said = run("schedules", "preview", *args).stdout.splitlines()
    found = json.loads(run("schedules", "preview", *args, "--json").stdout)

    assert said == [
        "At 02:30 every day, Europe/Warsaw",
        "Sat 2026-03-28 02:30:00 +0100  01:30:00 UTC",
        "Sun 2026-03-29 03:00:00 +0200  01:00:00 UTC",
        "Mon 2026-03-30 02:30:00 +0200  00:30:00 UTC",
    ]
    assert [one["utc"] for one in found["moments"]] == [
        "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("61 * * * * *",), "61"),
        (("* * * *",), "field"),
        (("0 0 31 2 *",), ""),
        (("* * * * *", "--tz", "Europe/Atlantis"), "Atlantis"),
        (("* * * * *", "--after", "tomorrow"), "no moment"),
    ],
)
def test_what_cannot_be_previewed_is_a_wrong_command(run, args, said):
    result = run("schedules", "preview", *args)

    assert result.exit_code == 2
    assert said in result.stderr


def test_one_is_paused_run_resumed_and_its_ledger_shown(run):
    assert "is paused" in run("schedules", "pause", "jobs:ox", "weekly").stdout
    assert "paused" in run("schedules", "list", "jobs:ox").stdout
    id = run("schedules", "run", "jobs:ox", "weekly").stdout.strip()
    assert id.startswith("schedule:weekly:run:")
    assert id in run("jobs", "list", "jobs:ox", "default").stdout
    assert "goes on at" in run("schedules", "resume", "jobs:ox", "weekly").stdout
    [entry] = json.loads(run("schedules", "ledger", "jobs:ox", "weekly", "--json").stdout)
    assert (entry["told"], entry["job_id"]) == ("run", id)
    assert "run" in run("schedules", "ledger", "jobs:ox", "weekly").stdout


def test_one_is_deleted_when_that_is_confirmed(run):
    url = ("--url", "sqlite:///muskox.db")

    assert run("schedules", "delete", *url, "weekly", stdin="n\n").exit_code == 1
    assert run("schedules", "delete", *url, "weekly", "--yes").exit_code == 0
    again = run("schedules", "delete", *url, "weekly", "--yes")
    assert (again.exit_code, "there is no schedule 'weekly'" in again.stderr) == (1, True)


def test_what_left_the_code_is_pruned(run, scheduled):
    (scheduled.parent / "later.py").write_text(LATER)

    asked = run("schedules", "prune", "later:ox", stdin="n\n")
    pruned = run("schedules", "prune", "later:ox", "--yes")

    assert asked.exit_code == 1
    assert pruned.stdout == "with:colon/and-more\n1 deleted\n"
    assert "weekly" in run("schedules", "list", "later:ox").stdout


@pytest.mark.parametrize("command", ["pause", "resume", "run", "ledger"])
def test_a_name_that_is_not_there_is_refused(run, command):
    result = run("schedules", command, "jobs:ox", "nothing")

    assert (result.exit_code, "there is no schedule 'nothing'" in result.stderr) == (1, True)
