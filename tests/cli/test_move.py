"""`muskox move`: from one store to another, with a dry run, and refusals that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

HERE, THERE = "sqlite:///here.db", "sqlite:///there.db"


@pytest.fixture(autouse=True)
def filled(run: Run) -> None:
    """A store with two jobs that wait, one delayed and one cancelled."""
    for words in (["a"], ["b"], ["c", "--delay", "600"], ["d"]):
        assert run("add", "--url", HERE, "email", "welcome", "{}", "--id", *words).exit_code == 0
    run("jobs", "cancel", "--url", HERE, "email", "d")


def figures(run: Run, url: str) -> dict[str, Any]:
    found = json.loads(run("queues", "list", "--url", url, "--json").stdout)
    return {state: number for one in found for state, number in one.items() if isinstance(number, int) and number > 0}


def test_jobs_are_carried(run: Run) -> None:
    result = run("move", HERE, THERE)

    assert (result.exit_code, result.stdout) == (0, f"email: 3 jobs\n3 jobs carried to {THERE}\n")
    there = json.loads(run("queues", "list", "--url", THERE, "--json").stdout)
    assert [(one["queue"], one["waiting"], one["delayed"], one["total"]) for one in there if one["total"]] == [
        ("email", 2, 1, 3)
    ]
    assert run("audit", "--url", THERE).exit_code == 0
    assert run("move", HERE, THERE).stdout == f"0 jobs carried to {THERE}\n"


def test_ended_jobs_are_carried_with_all(run: Run) -> None:
    assert run("move", HERE, THERE, "--all").stdout == f"email: 4 jobs\n4 jobs carried to {THERE}\n"


def test_a_dry_run_says_what_would_be_carried_and_changes_nothing(run: Run) -> None:
    before = figures(run, HERE)

    assert run("move", HERE, THERE, "--dry-run").stdout == "email: 2 waiting, 1 delayed\n3 jobs would be carried\n"
    assert "2 waiting, 1 delayed, 1 cancelled\n4 jobs" in run("move", HERE, THERE, "--dry-run", "--all").stdout

    assert figures(run, HERE) == before
    assert not Path("there.db").exists()


def test_jobs_that_were_there_already_are_told_of(run: Run) -> None:
    run("add", "--url", THERE, "email", "welcome", "{}", "--id", "a")

    assert "1 of them were there already, by queue and id" in run("move", HERE, THERE).stdout


def test_a_store_is_not_moved_to_itself(run: Run) -> None:
    result = run("move", HERE, f"sqlite:///{Path.cwd()}/here.db")

    assert (result.exit_code, "both URLs are of the same store" in result.stderr) == (2, True)
