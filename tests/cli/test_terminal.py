"""What is drawn on a real terminal, and `muskox dev`: a worker and a dashboard that follow the code."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from muskox import Muskox
from tests.cli.conftest import SRC, Run, Start, added
from tests.cli.test_worker import until

pytestmark = pytest.mark.slow


class Terminal:
    """A process whose input and output are a terminal of its own."""

    def __init__(self, *args: str) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "muskox", *args], stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "PYTHONPATH": str(SRC), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until a text was drawn; pytest's timeout is the limit."""
        while text not in self.seen:
            self.seen += self._read()
        return self.seen

    def rest(self) -> str:
        """Read to the end of the process."""
        try:
            while True:
                self.seen += self._read()
        except OSError:  # so a terminal says that nobody is on its other side
            return self.seen

    def _read(self) -> str:
        found = os.read(self.ours, 65_536).decode("utf-8", "replace")
        if not found:
            raise OSError("the terminal is closed")
        return found


@contextmanager
def terminal(*args: str) -> Iterator[Terminal]:
    one = Terminal(*args)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        os.close(one.ours)


def test_top_draws_until_q_is_pressed_and_leaves_the_terminal_as_it_was(run: Run) -> None:
    added(run, "email", "welcome", "{}")

    with terminal("top", "--every", "0.2") as one:
        one.until("slots busy")
        assert "email" in one.seen
        os.write(one.ours, b"q")
        one.until("\x1b[?1049l")  # the screen from before is shown again
        assert one.process.wait(30) == 0


def test_long_work_has_a_bar_on_a_terminal_and_its_answer_after_it(run: Run) -> None:
    for _ in range(3):
        added(run, "email", "welcome", "{}")

    with terminal("queues", "drain", "email", "--yes") as one:
        said = one.rest()
        assert one.process.wait(30) == 0

    assert "email: drained" in said
    assert "3 removed" in said.splitlines()[-1]


def test_dev_runs_worker_and_dashboard_and_follows_the_code(run: Run, start: Start, program: Path) -> None:
    pytest.importorskip("watchfiles")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    dev = start("dev", "jobs:ox", "--port", str(port), "--queue", "email")
    until(dev, "takes jobs from")
    assert dev.stdout is not None
    assert any(re.search(rf"dashboard +http://127.0.0.1:{port}/", line) for line in dev.stdout)
    assert httpx.get(f"http://127.0.0.1:{port}/api/queues").status_code == 200

    # Watching may begin after the first worker has, so one change might be missed.
    done = threading.Event()
    text = program.read_text().replace("return os.getpid()", 'return "changed"')
    writer = threading.Thread(target=_write_until, args=(program, text, done))
    writer.start()
    until(dev, "changed")
    done.set()
    writer.join()
    until(dev, "takes jobs from")
    id = added(run, "email", "welcome", '{"address": "ada@example.org"}')

    assert asyncio.run(Muskox().queue("email").result(id, timeout=60)) == "changed"
    assert any("dashboard" in line for line in dev.stdout)
    dev.send_signal(signal.SIGTERM)
    assert dev.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/api/queues")


def _write_until(program: Path, text: str, done: threading.Event) -> None:
    while not done.wait(0.3):
        text += "\n"
        program.write_text(text)


@pytest.mark.parametrize(
    ("args", "said"),
    [(["nope:ox"], "there is no module 'nope'"), (["jobs:ox", "-q", "emial"], "no processor for queue 'emial'")],
)
def test_dev_refuses_at_once_what_could_never_run(run: Run, args: list[str], said: str) -> None:
    result = run("dev", *args)

    assert (result.exit_code, said in result.stderr) == (2, True)
