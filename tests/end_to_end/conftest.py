"""The yard of the end-to-end tests: a store in a file, a ledger, and worker processes that are never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from muskox import Job, Muskox, ResultUnavailable
from muskox.core.events import Completed, Failed
from muskox.core.job import SETTLED
from tests import processes
from tests.stores import SHARED

LIMIT = 40.0

MAIN = {name: made for name, made in SHARED.items() if name in {"sqlite", "postgres", "redis"}}
"""One of each kind: older servers, poolers and clusters have the whole suite of stores."""


class Process:
    """One worker process."""

    def __init__(self, process: processes.Process, log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def gone(self, limit: float = LIMIT) -> int:
        """Wait for its end and give its exit code."""
        async with asyncio.timeout(limit):
            return await self.process.wait()

    def said(self) -> str:
        """What it has written to its standard streams."""
        return self._log.read_text()


class Yard:
    """Where one test has its store, its ledger and its processes."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder}/jobs.db"
        self.path = folder / "ledger"
        self.path.touch()
        self.gate = folder / "gate"
        self.ox = Muskox(self.url)
        self.queue = self.ox.queue("work")
        self.processes: list[Process] = []

    async def start(
        self, *, lease: float = 30, shutdown_timeout: float = 20, concurrency: int = 4, gate: str = "", url: str = ""
    ) -> Process:
        """Start a worker, and return when it is one; `url` is its own way to the store."""
        found = await self.start_only(
            lease=lease, shutdown_timeout=shutdown_timeout, concurrency=concurrency, gate=gate, url=url
        )
        async with asyncio.timeout(LIMIT):
            while found.pid not in {worker.pid for worker in await self.ox.workers()}:
                assert found.process.returncode is None, found.said()
                await asyncio.sleep(0.02)
        return found

    async def start_only(
        self, *, lease: float, shutdown_timeout: float, concurrency: int, gate: str, url: str = ""
    ) -> Process:
        log = self.folder / f"said-{len(self.processes)}"
        with log.open("wb") as file:
            process = await processes.forked(
                *("tests.end_to_end.program", url or self.url, self.path, lease, shutdown_timeout, concurrency, gate),
                output=file.fileno(),
                session=True,
            )
        self.processes.append(Process(process, log))
        return self.processes[-1]

    def facts(self, word: str, job: Job | str | None = None) -> list[list[str]]:
        """The ledger's lines with that word, of one job or of all: word, job, fence, process."""
        id = job.id if isinstance(job, Job) else job
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [line for line in lines if line[0] == word and id in {None, line[1]}]

    async def until(self, fact: Callable[[], object], limit: float = LIMIT) -> None:
        async with asyncio.timeout(limit):
            while not fact():  # noqa: ASYNC110 - facts about other processes set no event
                await asyncio.sleep(0.01)

    async def started(self, job: Job | str, times: int = 1) -> None:
        await self.until(lambda: len(self.facts("start", job)) >= times)

    async def ended(self, job: Job | str, limit: float = LIMIT) -> Job:
        """Wait for a job's end and give it as it is then."""
        id = job.id if isinstance(job, Job) else job
        async with asyncio.timeout(limit):
            try:
                await self.queue.result(id)
            except ResultUnavailable:
                pass
        return await self.get(id)

    async def get(self, job: Job | str) -> Job:
        found = await self.queue.get(job.id if isinstance(job, Job) else job)
        assert found is not None
        return found

    async def all_ended(self, total: int) -> None:
        """Wait until so many jobs have ended."""
        async with asyncio.timeout(LIMIT):
            while True:
                states = (await self.queue.counts()).states
                if sum(states[state] for state in SETTLED) == total:
                    return
                await asyncio.sleep(0.02)

    async def endings(self, job: Job | str) -> list[str]:
        """The endings that the store has told of for a job; there must never be more than one."""
        id = job.id if isinstance(job, Job) else job
        return [kind for kind, owner in await self.all_endings() if owner == id]

    async def all_endings(self) -> list[tuple[str, str]]:
        """Every ending that the store has told of: its kind, and of which job."""
        store, found, after = await self.ox.store(), [], 0
        while page := await store.events(after=after):
            after = page[-1].offset
            found += [(event.kind, event.job_id) for event in page if isinstance(event, Completed | Failed)]
        return found


@asynccontextmanager
async def fenced(made: Yard) -> AsyncIterator[Yard]:
    """Audit the store at the end, and leave no process behind."""
    async with made.ox:
        try:
            yield made
            assert await made.ox.audit() == []
        finally:
            for process in made.processes:
                if process.process.returncode is None:
                    process.send(signal.SIGKILL)
                await process.gone()


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with fenced(Yard(tmp_path)) as made:
        yield made


def alive(pid: int) -> bool:
    """Whether a process executes anything: one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
