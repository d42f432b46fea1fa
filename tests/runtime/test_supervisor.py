"""Several worker processes under a supervisor, and what signals do to them: real processes, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import pytest

from muskox.core.errors import OptionError
from muskox.runtime.supervisor import run_processes
from muskox.runtime.world import RealWorld
from tests.processes import gone
from tests.runtime.helpers import until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups need a Unix")
LIMIT = 40.0

# Writes what happens to it into a file of its own, and stops as a worker does.
WORKER = """
    import asyncio, os, sys
    from pathlib import Path
    from muskox.runtime.signals import run_until_signal

    folder, manner = Path(sys.argv[1]), sys.argv[2]

    def say(word):
        with (folder / f"{os.getpid()}.said").open("a") as file: print(word, file=file)

    class Worker:
        def __init__(self):
            self.stopped = asyncio.Event()

        async def run(self):
            say("up")
            if manner == "crash":
                os._exit(3)
            if manner == "busy":
                while True: pass
            await self.stopped.wait()

        def stop(self, now=False):
            say("now" if now else "stop")
            if manner == "gentle" or (now and manner == "slow"):
                self.stopped.set()

    async def main():
        await run_until_signal(Worker())

    asyncio.run(main())
    say("bye")
"""

SUPERVISOR = """
    import logging, sys
    from pathlib import Path
    from muskox.runtime.supervisor import run_processes
    from muskox.runtime.world import RealWorld

    logging.basicConfig(level=logging.INFO)
    folder, manner, count, *reload = sys.argv[1:]
    command = [sys.executable, str(Path(folder) / "worker.py"), folder, manner]
    sys.exit(run_processes([command] * int(count), reload=[Path(each) for each in reload], world=RealWorld()))
"""


class Herd:
    """A folder with a supervisor, its workers, and what they have said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None
        (folder / "worker.py").write_text(dedent(WORKER))
        (folder / "supervise.py").write_text(dedent(SUPERVISOR))

    async def start(self, program: str, *args: str) -> asyncio.subprocess.Process:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(str(self.folder / program), str(self.folder), *args),
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return self.process

    def said(self) -> dict[int, list[str]]:
        return {int(path.stem): path.read_text().split() for path in self.folder.glob("*.said")}

    def those_who_said(self, *words: str) -> list[int]:
        return [pid for pid, said in self.said().items() if said == list(words)]

    async def all_say(self, count: int, *words: str) -> None:
        await until(lambda: len(self.those_who_said(*words)) == count)

    async def end(self) -> tuple[int, str]:
        assert self.process is not None
        _, complaints = await asyncio.wait_for(self.process.communicate(), LIMIT)
        return self.process.returncode or 0, complaints.decode()


@pytest.fixture
async def herd(tmp_path: Path) -> AsyncIterator[Herd]:
    herd = Herd(tmp_path)
    yield herd
    if herd.process is not None and herd.process.returncode is None:
        herd.process.kill()
        await herd.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_one_signal_stops_a_worker_gently(herd: Herd, number: signal.Signals) -> None:
    process = await herd.start("worker.py", "gentle")
    await herd.all_say(1, "up")

    process.send_signal(number)

    assert (await herd.end())[0] == 0
    await herd.all_say(1, "up", "stop", "bye")


async def test_a_second_signal_stops_a_worker_at_once(herd: Herd) -> None:
    process = await herd.start("worker.py", "slow")
    await herd.all_say(1, "up")

    process.terminate()
    await herd.all_say(1, "up", "stop")
    process.send_signal(signal.SIGINT)

    assert (await herd.end())[0] == 0
    await herd.all_say(1, "up", "stop", "now", "bye")


async def test_a_third_signal_ends_a_worker_that_cannot_stop(herd: Herd) -> None:
    process = await herd.start("worker.py", "stubborn")
    await herd.all_say(1, "up")

    process.terminate()
    await herd.all_say(1, "up", "stop")
    process.terminate()
    await herd.all_say(1, "up", "stop", "now")
    process.terminate()

    assert (await herd.end())[0] == 128 + signal.SIGTERM


async def test_fault_h06_signals_end_a_worker_whose_loop_is_blocked(herd: Herd) -> None:
    process = await herd.start("worker.py", "busy")
    await herd.all_say(1, "up")

    async with asyncio.timeout(LIMIT):
        while process.returncode is None:
            # Two that arrive together count as one. Not by send_signal, which would look for its end beside asyncio.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
            await asyncio.sleep(0.02)

    assert (await herd.end())[0] == 128 + signal.SIGINT


async def test_the_supervisor_hands_a_signal_on_and_exits_clean(herd: Herd) -> None:
    process = await herd.start("supervise.py", "gentle", "3")
    await herd.all_say(3, "up")

    process.send_signal(signal.SIGINT)

    assert (await herd.end())[0] == 0
    await herd.all_say(3, "up", "stop", "bye")


async def test_a_second_signal_to_the_supervisor_stops_at_once(herd: Herd) -> None:
    process = await herd.start("supervise.py", "slow", "2")
    await herd.all_say(2, "up")

    process.terminate()
    await herd.all_say(2, "up", "stop")
    process.terminate()

    assert (await herd.end())[0] == 0
    await herd.all_say(2, "up", "stop", "now", "bye")


async def test_a_third_signal_to_the_supervisor_kills(herd: Herd) -> None:
    process = await herd.start("supervise.py", "stubborn", "2")
    await herd.all_say(2, "up")

    process.terminate()
    await herd.all_say(2, "up", "stop")
    process.terminate()
    await herd.all_say(2, "up", "stop", "now")
    process.terminate()

    assert (await herd.end())[0] == 1
    assert all(gone(pid) for pid in herd.said())


async def test_fault_w10_a_worker_that_is_killed_is_replaced(herd: Herd) -> None:
    process = await herd.start("supervise.py", "gentle", "2")
    await herd.all_say(2, "up")
    victim, other = herd.those_who_said("up")

    os.kill(victim, signal.SIGKILL)
    await until(lambda: len(herd.said()) == 3)

    assert not gone(other)
    await herd.all_say(3, "up")
    process.terminate()
    code, complaints = await herd.end()
    assert code == 0
    assert f"worker process {victim} ended with signal 9; another one starts in 0.5 s" in complaints


async def test_a_worker_that_cannot_start_is_tried_again_ever_later(herd: Herd) -> None:
    process = await herd.start("supervise.py", "crash", "1")
    await until(lambda: len(herd.said()) == 3)

    process.terminate()
    code, complaints = await herd.end()

    assert code in (0, 1)
    assert "ended with exit code 3; another one starts in 0.5 s" in complaints
    assert "ended with exit code 3; another one starts in 1.0 s" in complaints


async def test_fault_w09_workers_die_with_a_killed_supervisor(herd: Herd) -> None:
    process = await herd.start("supervise.py", "busy", "2")
    await herd.all_say(2, "up")

    process.kill()
    await process.wait()

    await until(lambda: all(gone(pid) for pid in herd.said()), limit=2.0)


@pytest.mark.skipif(importlib.util.find_spec("watchfiles") is None, reason="needs muskox[watch]")
async def test_a_change_of_the_source_restarts_the_workers_gently(herd: Herd) -> None:
    source = herd.folder / "source"
    source.mkdir()
    process = await herd.start("supervise.py", "gentle", "2", str(source))
    await herd.all_say(2, "up")

    changes = 0
    while len(herd.those_who_said("up", "stop", "bye")) < 2:
        # Nothing says when the watching has begun.
        changes += 1
        (source / "jobs.py").write_text(f"CHANGE = {changes}\n")
        with contextlib.suppress(TimeoutError):
            await until(lambda: len(herd.those_who_said("up", "stop", "bye")) == 2, limit=2.0)
    await until(lambda: len(herd.those_who_said("up")) == 2)

    process.terminate()
    code, complaints = await herd.end()
    assert code == 0
    assert "jobs.py changed; the worker processes start anew" in complaints


def test_reload_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['watchfiles'] = None\n"
        "from pathlib import Path\n"
        "from muskox.runtime.supervisor import run_processes\n"
        "from muskox.runtime.world import RealWorld\n"
        "run_processes([['worker']], reload=[Path(sys.argv[1])], world=RealWorld())\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stderr.strip().endswith("which is not installed; pip install muskox[watch]")
    assert "OptionError" in done.stderr


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="processes must be at least 1, not 0"):
        run_processes([], world=RealWorld())
    with pytest.raises(OptionError, match="which does not exist"):
        run_processes([["worker"]], reload=[tmp_path / "nowhere"], world=RealWorld())
