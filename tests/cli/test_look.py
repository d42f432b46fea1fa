"""Looking at queues, jobs and events from a terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from muskox import Muskox, SyncActiveJob
from muskox.cli import main
from muskox.store.protocol import Want
from muskox.testing import FakeWorld
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

    [counts] = json.loads(run("queues", "list", "jobs:ox", "--json").stdout)

    assert (counts["waiting"], counts["delayed"], counts["total"], counts["held"]) == (1, 1, 2, 1)
    assert counts["names"]["welcome"]["delayed"] == 1
    assert "email" in run("queues", "list").stdout


def test_counts_of_an_empty_store_name_it(run: Run) -> None:
    assert run("queues", "list").stdout == "no queue of sqlite:///muskox.db has had a job yet\n"


def test_the_url_may_come_from_the_environment_or_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sqlite:///a.db" in run("queues", "list", "--url", "sqlite:///a.db").stdout
    monkeypatch.setenv("MUSKOX_URL", "sqlite:///b.db")
    assert "sqlite:///b.db" in run("queues", "list").stdout


def test_jobs_are_listed_by_state_and_name(run: Run) -> None:
    added(run, "email", "welcome", "{}", "--id", "first")
    added(run, "email", "slow", "{}", "--id", "second", "--delay", "60")

    assert "second" not in run("jobs", "list", "jobs:ox", "email", "--state", "waiting").stdout
    lines = run("jobs", "list", "email", "--name", "slow", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["second"]


def test_a_page_says_that_there_are_more(run: Run) -> None:
    for number in range(3):
        added(run, "email", "welcome", "{}", "--id", str(number))

    result = run("jobs", "list", "email", "--limit", "2")

    assert len(result.stdout.splitlines()) == 3
    assert "and more" in result.stderr


def test_a_job_is_shown_as_a_whole_and_can_do_nothing_to_the_terminal(run: Run, failed: str) -> None:
    shown = run("jobs", "show", "files", failed).stdout

    assert "state     failed" in shown
    assert "RuntimeError: the picture is [red]torn[/red]\\x1b[2J" in shown
    assert "looking at \\x1b[31mit" in shown
    log, record = ["jobs", "logs", "files", failed], ["jobs", "show", "files", failed, "--json"]
    others = (["jobs", "list", "files"], ["events"], log, record, ["top", "--once"], ["top", "--once", "--json"])
    assert "\x1b" not in shown + "".join(run(*command).stdout for command in others)


def test_events_are_printed_with_kind_and_queue(run: Run) -> None:
    added(run, "email", "welcome", "{}", "--id", "x")
    run("queues", "pause", "files")

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
    run("queues", "pause", "email")
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


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


SERVICES = {
    ("dev",),
    ("worker",),
    ("dashboard",),
    ("outbox",),
    ("access", "user"),
    ("access", "token"),
    ("completion",),
}
"""Commands that give nothing which a program would read as JSON: they serve, or print lines for a file."""


def test_every_command_that_answers_speaks_json() -> None:
    silent = {words for words, command in commands() if all("--json" not in one.opts for one in command.params)}

    assert silent == SERVICES


def test_each_thing_has_one_command() -> None:
    wanted = {
        "jobs": {"list", "show", "logs", "retry", "promote", "cancel", "remove"},
        "queues": {"list", "pause", "resume", "drain", "clean"},
    }

    assert {group: set(main.commands[group].commands) for group in wanted} == wanted  # type: ignore[attr-defined]


def test_a_log_is_printed_line_by_line_and_missed_where_there_is_no_job(run: Run, failed: str) -> None:
    assert run("jobs", "logs", "files", failed).stdout == "looking at \\x1b[31mit\n"
    [line] = run("jobs", "logs", "files", failed, "--follow", "--json").stdout.splitlines()
    assert json.loads(line)["number"] == 1
    assert run("jobs", "logs", "files", "nobody").exit_code == 1


def test_no_worker_is_told_and_top_shows_one_look(run: Run) -> None:
    added(run, "email", "welcome", "{}")

    assert run("workers").stdout.startswith("no worker is alive on sqlite:///muskox.db")
    assert json.loads(run("workers", "--json").stdout) == []
    look = json.loads(run("top", "--once", "--json").stdout)
    assert [(one["queue"], one["waiting"]) for one in look["queues"]] == [("email", 1)]
    drawn = run("top", "--once").stdout
    assert "0 of 0 slots busy" in drawn
    assert "QUEUE" in drawn
    assert run("top").exit_code == 2


@pytest.mark.parametrize(("shell", "said"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --")])
def test_a_shell_learns_our_commands(run: Run, shell: str, said: str) -> None:
    script = run("completion", shell).stdout

    assert said in script
    assert "_MUSKOX_COMPLETE" in script


def test_what_a_shell_asks_is_answered() -> None:
    def asked(*words: str, now: str) -> list[str]:
        return [
            one.value for one in ShellComplete(main, {}, "muskox", "_MUSKOX_COMPLETE").get_completions([*words], now)
        ]

    assert asked("jobs", now="re") == ["retry", "remove"]
    assert asked("jobs", "list", "email", "--state", now="w") == ["waiting"]


def test_doctor_finds_what_is_stuck_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    async def stick() -> None:
        async with Muskox(f"sqlite:///{tmp_path}/muskox.db", world=FakeWorld(seed=1)) as old:
            # Long ago by the clock of this world: a job that waits, one that is due, one that runs, and a schedule.
            await old.queue("old").add_many([("waits", None), ("runs", None)])
            await old.queue("old").add("due", delay=10)
            await old.schedules.add_every("hourly", 3600, queue="old", job="waits")
            store = await old.store()
            await store.claim([Want("old", frozenset({"runs"}))], limit=1, worker="dead", lease=30)

    asyncio.run(stick())
    found = run("doctor")
    checks = json.loads(run("doctor", "--json", "--no-audit").stdout)

    assert found.exit_code == 1
    for said in (
        "a job of queue old has waited for", "was due", "1 active jobs of queue old belong to workers that are gone",
        "schedule hourly should have fired", "0 live workers; 3 jobs are to run", "journal mode wal",
        "audit: everything fits",
    ):  # fmt: skip
        assert said in found.stdout
    assert all(check["remedy"] for check in checks if not check["sound"])
