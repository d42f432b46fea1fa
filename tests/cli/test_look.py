"""Looking at queues, jobs and events from a terminal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from muskox import Muskox, SyncActiveJob
from muskox.cli import main
from tests.cli.conftest import Run, added


@pytest.fixture
def failed(tmp_path: Path) -> str:
    """The id of a job that has failed with markup and control characters in its message."""

    async def work() -> str:
        async with Muskox(f"sqlite:///{tmp_path}/muskox.db") as ox:
            files = ox.queue("files")

            @files.processor()
            def resize(job: SyncActiveJob) -> None:
                job.log("looking at \x1b[31mit")
                raise RuntimeError("the picture is [red]torn[/red]\x1b[2J")

            followed = files.events(kinds=["failed"], after=0)
            async with ox.worker():
                job = await files.add("resize")
                await anext(followed)
            return job.id

    return asyncio.run(work())


def test_counts_show_every_state(run: Run) -> None:
    added(run, "email", "welcome", "{}")
    added(run, "email", "welcome", "{}", "--delay", "60")

    [counts] = json.loads(run("counts", "jobs:ox", "--json").stdout)

    assert (counts["waiting"], counts["delayed"], counts["total"], counts["held"]) == (1, 1, 2, 1)
    assert counts["names"]["welcome"]["delayed"] == 1
    assert "email" in run("counts").stdout


def test_counts_of_an_empty_store_name_it(run: Run) -> None:
    assert run("counts").stdout == "no queue of sqlite:///muskox.db has had a job yet\n"


def test_the_url_may_come_from_the_environment_or_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sqlite:///a.db" in run("counts", "--url", "sqlite:///a.db").stdout
    monkeypatch.setenv("MUSKOX_URL", "sqlite:///b.db")
    assert "sqlite:///b.db" in run("counts").stdout


def test_jobs_are_listed_by_state_and_name(run: Run) -> None:
    added(run, "email", "welcome", "{}", "--id", "first")
    added(run, "email", "slow", "{}", "--id", "second", "--delay", "60")

    assert "second" not in run("jobs", "jobs:ox", "email", "--state", "waiting").stdout
    lines = run("jobs", "email", "--name", "slow", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["second"]


def test_a_page_says_that_there_are_more(run: Run) -> None:
    for number in range(3):
        added(run, "email", "welcome", "{}", "--id", str(number))

    result = run("jobs", "email", "--limit", "2")

    assert len(result.stdout.splitlines()) == 3
    assert "and more" in result.stderr


def test_a_job_is_shown_as_a_whole_and_can_do_nothing_to_the_terminal(run: Run, failed: str) -> None:
    shown = run("job", "files", failed).stdout

    assert "state     failed" in shown
    assert "RuntimeError: the picture is [red]torn[/red]\\x1b[2J" in shown
    assert "looking at \\x1b[31mit" in shown
    assert (
        "\x1b"
        not in shown + run("jobs", "files").stdout + run("events").stdout + run("job", "files", failed, "--json").stdout
    )


def test_events_are_printed_with_kind_and_queue(run: Run) -> None:
    added(run, "email", "welcome", "{}", "--id", "x")
    run("pause", "files")

    kinds = [json.loads(line)["kind"] for line in run("events", "--json").stdout.splitlines()]

    assert kinds == ["waiting", "paused"]
    assert "waiting    email  welcome  x" in run("events", "--queue", "email").stdout
    assert run("events", "--kind", "paused").stdout.count("\n") == 1
    assert run("events", "--last", "0").stdout == ""


def test_audit_and_migrate_find_a_fresh_store_in_order(run: Run) -> None:
    assert run("migrate").stdout == "the tables of sqlite:///muskox.db are up to date\n"
    assert run("audit").stdout == "everything fits\n"


def test_doctor_makes_no_database(run: Run, tmp_path: Path) -> None:
    result = run("doctor", "jobs:ox")

    assert result.exit_code == 0
    assert "there is no database" in result.stdout
    assert not (tmp_path / "muskox.db").exists()


def test_doctor_finds_held_jobs_paused_queues_and_open_files(run: Run, tmp_path: Path) -> None:
    added(run, "email", "welcome", "{}")
    run("pause", "email")
    (tmp_path / "muskox.db").chmod(0o644)

    result = run("doctor")

    assert result.exit_code == 1
    for said in ("chmod 600", "1 of 1 jobs that wait in queue email", "queue email is paused", "SQLite 3."):
        assert said in result.stdout


def test_doctor_says_what_cannot_be_opened(run: Run, tmp_path: Path) -> None:
    (tmp_path / "muskox.db").write_text("no database at all, but a letter " * 20)

    result = run("doctor")

    assert result.exit_code == 1
    assert "is not a SQLite database" in result.stdout


@pytest.mark.parametrize("command", [[], *[[name] for name in main.commands]])
def test_every_command_explains_itself(run: Run, command: list[str]) -> None:
    result = run(*command, "--help")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(['muskox', *command])}")


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").stdout.startswith("muskox")


def test_a_job_is_explained(run: Run) -> None:
    added(run, "email", "welcome", "{}", "--id", "mine", "--delay", "60")

    found = json.loads(run("explain", "jobs:ox", "mine", "--json").stdout)

    assert found["state"] == "delayed"
    assert [reason["kind"] for reason in found["reasons"]] == ["delayed", "no-worker"]
    assert "no worker is alive" in run("explain", "mine", "--queue", "email").stdout
    lost = run("explain", "nobody")
    assert (lost.exit_code, lost.stderr.startswith("Error: no queue has a job 'nobody'")) == (1, True)
