"""Adding and managing jobs from a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Run, added


def job(run: Run, id: str, queue: str = "email") -> Any:
    return json.loads(run("jobs", "show", queue, id, "--json").stdout)


def test_add_prints_the_id_and_follows_the_declaration(run: Run) -> None:
    id = added(run, "email", "welcome", '{"address": "ada@example.org"}', "--priority", "5")

    stored = job(run, id)

    assert (stored["state"], stored["priority"], stored["attempts"]) == ("waiting", 5, 3)
    assert stored["data"] == {"address": "ada@example.org"}


def test_add_reads_data_from_the_standard_input(run: Run) -> None:
    result = run("add", "email", "welcome", "-", "--json", stdin='{"address": "eve@example.org"}')

    assert json.loads(result.stdout)["data"] == {"address": "eve@example.org"}


def test_a_known_id_adds_nothing(run: Run) -> None:
    assert added(run, "email", "welcome", "{}", "--id", "x") == added(run, "email", "welcome", "{}", "--id", "x")
    assert json.loads(run("queues", "list", "--json").stdout)[0]["total"] == 1


def test_add_adds_nothing_while_a_job_with_the_dedup_key_is_there(run: Run) -> None:
    first = added(run, "email", "welcome", "{}", "--dedup", "ada", "--key", "acme")

    assert added(run, "email", "welcome", "{}", "--dedup", "ada") == first
    assert added(run, "email", "welcome", "{}", "--dedup", "eve") != first
    assert job(run, first)["key"] == "acme"


def test_a_delayed_job_is_promoted(run: Run) -> None:
    id = added(run, "email", "welcome", "{}", "--delay", "3600")
    assert job(run, id)["state"] == "delayed"

    assert run("jobs", "promote", "email", id).stdout == "1 promoted\n"

    assert job(run, id)["state"] == "waiting"


def test_a_job_is_cancelled_retried_and_removed(run: Run) -> None:
    id = added(run, "email", "welcome", "{}")

    assert run("jobs", "cancel", "email", id).stdout == "1 cancelled\n"
    assert job(run, id)["state"] == "cancelled"
    assert run("jobs", "retry", "email", id).stdout == "1 to run again\n"
    assert job(run, id)["state"] == "waiting"
    assert run("jobs", "remove", "email", id).stdout == "1 removed\n"
    assert run("jobs", "show", "email", id).exit_code == 1


def test_all_delayed_jobs_of_a_name_are_promoted(run: Run) -> None:
    added(run, "email", "welcome", "{}", "--delay", "3600")
    added(run, "email", "slow", "{}", "--delay", "3600")

    assert run("jobs", "promote", "email", "--all", "--name", "slow").stdout == "1 promoted\n"


def test_all_jobs_of_a_name_are_cancelled_and_removed_by_state(run: Run) -> None:
    for name in ("welcome", "welcome", "slow"):
        added(run, "email", name, "{}")

    assert run("jobs", "cancel", "email", "--all", stdin="n\n").exit_code == 1
    assert run("jobs", "cancel", "email", "--all", "--name", "welcome", "--yes").stdout == "2 cancelled\n"
    assert run("jobs", "remove", "email", "--state", "cancelled", "--yes").stdout == "2 removed\n"
    assert json.loads(run("queues", "list", "--json").stdout)[0]["total"] == 1


def test_a_queue_is_paused_and_resumed(run: Run) -> None:
    added(run, "email", "welcome", "{}")

    run("queues", "pause", "email")
    assert "email (paused)" in run("queues", "list").stdout
    run("queues", "resume", "jobs:ox", "email")
    assert "paused" not in run("queues", "list").stdout


def test_drain_asks_first(run: Run) -> None:
    added(run, "email", "welcome", "{}")

    assert run("queues", "drain", "email", stdin="n\n").exit_code == 1
    assert json.loads(run("queues", "list", "--json").stdout)[0]["waiting"] == 1
    assert run("queues", "drain", "email", "--yes").stdout == "1 removed\n"


REFUSED = [
    (1, ["jobs", "show", "email", "nix"], "queue 'email' has no job 'nix'"),
    (1, ["jobs", "retry", "email", "x"], "job x is waiting; retry needs a job that is cancelled, failed"),
    (1, ["jobs", "remove", "email", "nix"], "queue 'email' has no job 'nix'"),
    (2, ["add", "email", "welcome", "{bad"], "DATA_JSON '{bad' is not JSON"),
    (2, ["add", "email", "welcome", "--attempts", "0"], "attempts must be at least 1, not 0"),
    (2, ["add", "email", "welcome", "--delay", "-1"], "delay must be between 0 and"),
    (2, ["add", "e mail", "welcome"], "queue name 'e mail' is not allowed"),
    (2, ["jobs", "retry", "email"], "no job is named; give ids, or --all"),
    (2, ["jobs", "remove", "email"], "no job is named; give ids, or --state"),
    (2, ["jobs", "retry", "email", "x", "--all"], "--all and the id 'x' both say which jobs"),
    (2, ["jobs", "retry", "email", "x", "--name", "y"], "add --all"),
    (2, ["queues", "list", "jobs:ox", "--url", "sqlite:///x.db"], "give one of them"),
    (2, ["queues", "list", "sqlite:///x.db"], "give it as --url sqlite:///x.db"),
    (2, ["queues", "list", "--url", "mongo://x"], "no store for URLs that begin with 'mongo'"),
    (3, ["queues", "list", "--url", "sqlite:///nowhere/x.db"], "make it first"),
    (2, ["events", "--queue", "e mail"], "queue name 'e mail' is not allowed"),
    (2, ["events", "--kind", "nope"], "'nope' is not one of"),
]


@pytest.mark.parametrize(("code", "args", "said"), REFUSED)
def test_what_is_not_allowed_is_said_with_its_exit_code(run: Run, code: int, args: list[str], said: str) -> None:
    added(run, "email", "welcome", "{}", "--id", "x")

    result = run(*args)

    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_jobs_are_cancelled_by_state_and_age(run: Run) -> None:
    waiting = added(run, "email", "welcome", "{}")
    delayed = added(run, "email", "welcome", "{}", "--delay", "3600")

    old = run("jobs", "cancel", "email", "--all", "--added-before", "2020-01-01", "--yes")
    assert old.stdout == "0 cancelled\n"
    assert run("jobs", "cancel", "email", "--all", "--state", "delayed", "--yes").stdout == "1 cancelled\n"
    assert (job(run, waiting)["state"], job(run, delayed)["state"]) == ("waiting", "cancelled")
    assert (
        run("jobs", "cancel", "email", "--all", "--added-before", "2100-01-01T12:00+01:00", "-y").stdout
        == "1 cancelled\n"
    )
    assert run("jobs", "cancel", "email", waiting, "--state", "waiting").exit_code == 2
    assert run("jobs", "cancel", "email", "--all", "--added-before", "soon").exit_code == 2


def test_how_many_jobs_it_would_be_is_said_and_nothing_changes(run: Run) -> None:
    for name in ("welcome", "welcome", "slow"):
        added(run, "email", name, "{}")

    would = run("jobs", "cancel", "email", "--all", "--name", "welcome", "--dry-run", "--json")

    assert json.loads(would.stdout) == {"cancelled": 2, "dry_run": True}
    assert run("jobs", "remove", "email", "--state", "waiting", "--dry-run").stdout == "3 would be removed\n"
    assert json.loads(run("queues", "list", "--json").stdout)[0]["waiting"] == 3


def test_ended_jobs_are_cleaned_by_state_and_age(run: Run) -> None:
    for name in ("welcome", "slow"):
        run("jobs", "cancel", "email", added(run, "email", name, "{}"))

    assert run("queues", "clean", "email", stdin="n\n").exit_code == 1
    assert run("queues", "clean", "email", "-y").stdout == "0 removed\n"
    assert run("queues", "clean", "email", "--state", "cancelled", "--older-than", "3600", "-y").stdout == "0 removed\n"
    cleaned = run("queues", "clean", "email", "--state", "cancelled", "-y", "--json")
    assert json.loads(cleaned.stdout) == {"removed": 2}
    assert json.loads(run("queues", "list", "--json").stdout)[0]["total"] == 0
