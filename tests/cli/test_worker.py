"""`muskox worker`: it runs jobs, stops as it was asked, and says at once what is wrong with the command."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Start, added


def until(process: subprocess.Popen[str], text: str) -> str:
    """Read the log until a line with `text`; pytest's timeout is the limit."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"the process ended without saying {text!r}")


def result_of(start: Start, queue: str, id: str) -> object:
    """Follow the events until the job is completed; returns its result."""
    follower = start("events", "jobs:ox", "--follow", "--last", "1000", "--kind", "completed", "--json")
    assert follower.stdout is not None
    for line in follower.stdout:
        if json.loads(line)["job_id"] == id:
            break
    follower.kill()
    shown = start("jobs", "show", "jobs:ox", queue, id, "--json")
    return json.loads(shown.communicate()[0])["result"]


@pytest.mark.slow
def test_a_worker_runs_jobs_until_sigterm(run: Run, start: Start) -> None:
    id = added(run, "email", "welcome", '{"address": "ada@example.org"}')

    worker = start("worker", "jobs:ox", "--queue", "email")
    result = result_of(start, "email", id)
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(30) == 0
    assert result == worker.pid


@pytest.mark.slow
def test_a_running_job_ends_before_the_worker_does(run: Run, start: Start) -> None:
    id = added(run, "email", "slow", '{"seconds": 1}')

    worker = start("worker", "jobs:ox")
    follower = start("events", "jobs:ox", "--follow", "--last", "1000", "--kind", "progress")
    assert follower.stdout is not None
    assert "progress" in follower.stdout.readline()
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(30) == 0
    assert json.loads(run("jobs", "show", "email", id, "--json").stdout)["result"] == "done"


@pytest.mark.slow
def test_a_worker_that_may_not_wait_gives_the_job_back(run: Run, start: Start) -> None:
    id = added(run, "email", "slow", '{"seconds": 60}')

    worker = start("worker", "jobs:ox", "--shutdown-timeout", "0")
    follower = start("events", "jobs:ox", "--follow", "--last", "1000", "--kind", "progress")
    assert follower.stdout is not None
    assert "progress" in follower.stdout.readline()
    worker.send_signal(signal.SIGTERM)

    worker.wait(60)
    job = json.loads(run("jobs", "show", "email", id, "--json").stdout)
    assert (job["state"], job["attempt"], job["releases"]) == ("waiting", 0, 1)


@pytest.mark.slow
def test_several_processes_share_the_jobs_and_stop_together(run: Run, start: Start) -> None:
    supervisor = start("worker", "jobs:ox", "--processes", "2", "--concurrency", "1", "--log-format", "json")
    lines = [json.loads(until(supervisor, "takes jobs from")) for _ in range(2)]
    id = added(run, "email", "welcome", '{"address": "ada@example.org"}')

    pid = result_of(start, "email", id)
    workers = json.loads(start("queues", "list", "jobs:ox", "--json").communicate()[0])
    supervisor.send_signal(signal.SIGTERM)

    assert supervisor.wait(60) == 0
    assert pid != supervisor.pid
    assert [(line["level"], line["logger"]) for line in lines] == [("info", "muskox.worker")] * 2
    assert workers[0]["completed"] == 1


@pytest.mark.slow
def test_reload_starts_the_worker_anew_when_its_source_changes(start: Start, program: Path) -> None:
    pytest.importorskip("watchfiles")
    supervisor = start("worker", "jobs:ox", "--reload")
    first = until(supervisor, "takes jobs from")

    # Watching may begin after the first worker has, so one change might be missed.
    done = threading.Event()
    writer = threading.Thread(target=_change_until, args=(program, done))
    writer.start()
    until(supervisor, "changed")
    done.set()
    writer.join()
    second = until(supervisor, "takes jobs from")
    supervisor.send_signal(signal.SIGTERM)

    assert second.partition(": ")[2] != first.partition(": ")[2]
    assert supervisor.wait(60) == 0


def _change_until(program: Path, done: threading.Event) -> None:
    while not done.wait(0.3):
        program.write_text(f"{program.read_text()}\n")


WRONG = [
    (["nope:ox"], "there is no module 'nope'"),
    (["jobs:cow"], "module 'jobs' has no object 'cow'; it has jobs:ox"),
    (["jobs"], "write module:object, such as jobs:ox"),
    (["jobs.py"], "write module:object, such as jobs:ox"),
    (["other:number"], "'other:number' is no Muskox but int; it has other:bare"),
    (["other:bare"], "'other:bare' declares no processor"),
    (["broken:ox"], "importing 'broken' failed with RuntimeError"),
    (["needing:ox"], "it needs 'no_such_library', which is not installed"),
    (["jobs:ox", "--queue", "emial"], "no processor for queue 'emial'; its queues are email, files"),
    (["jobs:ox", "--lease", "0"], "lease must be between 0.1 and 86400 seconds, not 0.0"),
    (["jobs:ox", "--concurrency", "0"], "0 is not in the range"),
    (["jobs:ox", "--processes", "0"], "0 is not in the range"),
    (["jobs:ox", "--log-level", "loud"], "'loud' is not one of"),
]


@pytest.mark.parametrize(("args", "said"), WRONG)
def test_a_wrong_command_is_refused_with_its_remedy(run: Run, tmp_path: Path, args: list[str], said: str) -> None:
    (tmp_path / "other.py").write_text("from muskox import Muskox\nnumber = 1\nbare = Muskox()\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('boom')\n")
    (tmp_path / "needing.py").write_text("import no_such_library\n")

    result = run("worker", *args)

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_the_traceback_of_a_program_is_shown_without_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('boom')\n")

    said = run("worker", "broken:ox").stderr

    assert "RuntimeError: boom" in said
    assert "muskox/cli" not in said
    assert "importlib" not in said


def test_several_workers_are_not_started_on_a_store_that_cannot_be_opened(run: Run, tmp_path: Path) -> None:
    (tmp_path / "muskox.db").write_text("no database at all, but a letter")

    result = run("worker", "jobs:ox", "--processes", "2")

    assert result.exit_code == 1
    assert "is not a SQLite database" in result.stderr


def test_a_wrong_command_makes_no_database(run: Run, tmp_path: Path) -> None:
    run("worker", "jobs:ox", "--queue", "emial")

    assert not list(tmp_path.glob("*.db"))
