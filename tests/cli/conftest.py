"""A small program in a folder of its own, and two ways to speak to it: click's runner, and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from muskox.cli import main

SRC = Path(__file__).parents[2] / "src"

PROGRAM = """
import os
import time

from muskox import Muskox, SyncActiveJob

ox = Muskox()
emails = ox.queue("email")


@emails.processor(attempts=3)
def welcome(job: SyncActiveJob, address: str) -> int:
    job.log(f"writing to {address}")
    return os.getpid()


@emails.processor()
def slow(job: SyncActiveJob, seconds: float) -> str:
    job.progress(1)
    time.sleep(seconds)
    return "done"


@ox.queue("files").processor()
def resize() -> None:
    raise RuntimeError("the picture is [red]torn[/red]\\x1b[2J")
"""

Run = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with the program `jobs:ox`, which is the current one."""
    file = tmp_path / "jobs.py"
    file.write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield file
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""

    def invoke(*args: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(main, args, input=stdin, prog_name="muskox")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command as a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def popen(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "muskox", *args],
            env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def added(run: Run, *args: str) -> str:
    """Add a job; returns its id."""
    result = run("add", "jobs:ox", *args)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()
