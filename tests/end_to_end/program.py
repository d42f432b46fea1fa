"""A program with a worker, as the tests run it in processes of its own; what happens goes into a ledger file."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muskox import ActiveJob, Fixed, Muskox, SyncActiveJob

Say = Callable[[str, Any], None]


def ledger(path: str) -> Say:
    """Write facts as lines that a killed process cannot tear: word, job, fence, process."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(word: str, job: Any) -> None:
        os.write(file, f"{word} {job.id} {job.fence} {os.getpid()}\n".encode())

    return say


def fds(job: SyncActiveJob) -> list[str]:
    """What an isolated run has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return found


def stubborn(job: SyncActiveJob, path: str) -> None:
    """Run isolated and for ever, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ledger(path)("start", job)
    while True:
        time.sleep(0.01)


def hog(job: SyncActiveJob, group: str) -> None:
    """Go into a group of processes with little memory, and take more than it has."""
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1024) * 1024))


def pid(job: SyncActiveJob) -> int:
    return os.getpid()


def declare(ox: Muskox, path: str) -> None:  # noqa: C901 - one list of small functions
    """All that the tests ask of a program."""
    queue, say = ox.queue("work"), ledger(path)

    @queue.processor("quick")
    async def quick(job: ActiveJob, fail: int = 0) -> int:
        say("start", job)
        await job.progress(job.attempt)
        if job.attempt <= fail:
            raise ValueError("on purpose")
        say("end", job)
        return os.getpid()

    @queue.processor("long")
    async def long(job: ActiveJob, gate: str) -> str:
        say("start", job)
        try:
            while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240, PTH110 - another process opens it
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            say("told", job)
            raise
        say("end", job)
        return "done"

    @queue.processor("steps")
    async def steps(job: ActiveJob) -> list[int]:
        """A first step, and a second in which a first run stays for ever."""

        async def stay() -> int:
            say("start", job)
            while job.stalls == 0:  # noqa: ASYNC110 - it is killed
                await asyncio.sleep(0.01)
            return job.stalls

        def first() -> int:
            say("first", job)
            return job.stalls

        return [await job.step("first", first), await job.step("second", stay)]

    @queue.processor("many", batch=8, wait=0.2)
    async def many(jobs: list[ActiveJob]) -> list[str]:
        """The first run of a batch never ends; a run after a stall returns at once."""
        for job in jobs:
            say("start", job)
        while any(job.stalls == 0 for job in jobs):  # noqa: ASYNC110 - it is killed
            await asyncio.sleep(0.01)
        return [f"after {job.stalls} stalls" for job in jobs]

    @queue.processor("deaf")
    async def deaf(job: ActiveJob, gate: str) -> str:
        """The first run hears no cancel; a run after a stall returns at once."""
        say("start", job)
        while job.stalls == 0 and not os.path.exists(gate):  # noqa: ASYNC240, PTH110 - as above
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                say("told", job)
        say("end", job)
        return f"after {job.stalls} stalls"

    @queue.processor("greedy")
    async def greedy(job: ActiveJob, seconds: float) -> str:
        """Hold the interpreter itself in C code, as a bad regular expression does."""
        say("start", job)
        if job.stalls == 0:
            ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
        say("end", job)
        return f"after {job.stalls} stalls"

    @queue.processor("busy")
    async def busy(job: ActiveJob) -> str:
        """In its first run, never come back to the loop."""
        say("start", job)
        while job.stalls == 0:
            pass
        return f"after {job.stalls} stalls"

    @queue.processor("leave-async")
    async def leave_async(job: ActiveJob) -> None:
        say("start", job)
        os._exit(0)

    @queue.processor("leave-thread")
    def leave_thread(job: SyncActiveJob) -> None:
        say("start", job)
        os._exit(3)

    queue.processor("fds", isolated=True)(fds)
    queue.processor("stubborn", isolated=True)(stubborn)
    queue.processor("hog", isolated=True)(hog)
    queue.processor("pid", isolated=True, attempts=3, backoff=Fixed(0))(pid)


class Gated:
    """A store that kills its own process before or after a certain call of a certain verb."""

    def __init__(self, store: Any, gate: str) -> None:
        self._store = store
        self.traits = store.traits
        self._verb, number, self._when = gate.split(":")
        self._left = int(number)

    def __getattr__(self, verb: str) -> Any:
        work = getattr(self._store, verb)
        if verb != self._verb:
            return work

        async def call(*args: Any, **named: Any) -> Any:
            self._left -= 1
            mine = self._left == 0  # others may be on their way meanwhile
            if mine and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await work(*args, **named)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call


def main(url: str, path: str, *settings: str) -> None:
    lease, shutdown_timeout, concurrency, gate = settings
    ox = Muskox(url)
    declare(ox, path)
    if gate:
        ox.wrap_store(lambda store: Gated(store, gate))
    ox.run_worker(lease=float(lease), shutdown_timeout=float(shutdown_timeout), concurrency=int(concurrency))


if __name__ == "__main__":
    main(*sys.argv[1:])
