"""How much faster several worker processes are on one store than one, each a process of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.child import ROOT, command
from bench.ledger import Entry, entries, length
from bench.places import fresh
from bench.programs.steady import QUEUE
from bench.report import Report
from muskox import Muskox, Retention

__all__ = ["Shares", "drain_together", "share", "workers"]

BATCH = 1000
CONCURRENCY = 100
PATIENCE = 600.0
GOALS = {"sqlite": 1.0, "redis": 1.5, "postgres": 1.4}
"""How many times as fast two processes are where a core is free for each and one for the server."""


class Shares(msgspec.Struct):
    """What came of work that was shared: how many runs each process ended, and all of them in a second."""

    runs: dict[int, int]
    twice: int
    rate: float
    findings: list[str]


def drain_together(store: str, jobs: int, rounds: int, processes: int) -> Report:
    """No-op jobs through one worker process and through several, in each round both."""
    settings: dict[str, object] = {
        "jobs": jobs, "rounds": rounds, "concurrency": f"{CONCURRENCY} each", "processes": processes,
    }  # fmt: skip
    said = f"python -m bench drain --store {store} --processes {processes} --jobs {jobs} --rounds {rounds}"
    report = Report("drain: jobs run per second by several worker processes", said, settings)
    names = {1: "one process", processes: f"{processes} processes"}
    found: dict[str, list[float]] = {name: [] for name in names.values()}
    least = 1.0
    for _ in range(rounds):
        for count, name in names.items():
            with fresh(store) as url:
                shares = asyncio.run(share(url, jobs, count, concurrency=CONCURRENCY))
            if shares.twice or shares.findings or sum(shares.runs.values()) != jobs:
                raise RuntimeError(f"the work of {name} was not done once each: {shares}")
            found[name].append(shares.rate)
            least = min(least, *(runs * count / jobs for runs in shares.runs.values()))
    for name, rates in found.items():
        report.add(name, rates, "jobs/s")
    report.compare("times one process", names[processes], "one process", GOALS[store] if processes == 2 else None)
    report.checks["each job ran once, by the ledger, and the audit fits"] = "yes"
    report.checks["the smallest share of a process, as part of an even one"] = f"{least:.2f}"
    return report


async def share(url: str, jobs: int, processes: int, *, concurrency: int, pause: float = 0.0) -> Shares:
    """Have waiting jobs run by so many processes that begin in the same moment."""
    with tempfile.TemporaryDirectory(prefix="muskox-share-") as folder:
        ledger = Path(folder) / "ledger"
        async with Muskox(url) as ox, asyncio.timeout(PATIENCE):
            queue = ox.queue(QUEUE, retention=Retention(completed_most=10**9))
            await queue.pause()
            for first in range(0, jobs, BATCH):
                numbers = range(first, min(first + BATCH, jobs))
                await queue.add_many(("step", {"index": index}) for index in numbers)
            options = {"url": url, "ledger": str(ledger), "concurrency": concurrency, "pause": pause}
            async with workers("steady.share", processes, **options):
                while len(await ox.workers()) < processes:  # noqa: ASYNC110 - other processes start
                    await asyncio.sleep(0.02)
                await queue.resume()
                while length(ledger) < jobs:  # noqa: ASYNC110 - a file has no event
                    await asyncio.sleep(0.01)
            findings = [str(finding) for finding in await ox.audit()]
        return _shares(entries(ledger), processes, findings)


@asynccontextmanager
async def workers(program: str, count: int, **options: object) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Processes that run a program, numbered from 0; stopped gently at the end."""
    found: list[asyncio.subprocess.Process] = []
    try:
        for number in range(count):
            words = command(program, process=number, **options)
            found.append(await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL))
        yield found
        for process in found:
            if process.returncode is not None:
                raise RuntimeError(f"a worker process ended by itself with {process.returncode}")
    finally:
        for process in found:
            if process.returncode is None:
                process.terminate()
        for process in found:
            await process.wait()


def _shares(written: list[Entry], processes: int, findings: list[str]) -> Shares:
    runs = Counter(entry.job for entry in written)
    by_process = Counter(entry.process for entry in written)
    moments = [entry.at for entry in written]
    return Shares(
        runs={number: by_process[number] for number in range(processes)},
        twice=sum(count > 1 for count in runs.values()),
        rate=len(written) / ((max(moments) - min(moments)) / 1e9),
        findings=findings,
    )
