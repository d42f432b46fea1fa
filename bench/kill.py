"""Kills worker processes at random points while they work, and counts what became of the jobs."""

from __future__ import annotations

import asyncio
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from bench.child import ROOT, command
from bench.ledger import entries, length
from bench.places import fresh
from bench.programs.herd import ATTEMPTS, MAX_STALLS, QUEUE
from bench.report import Report
from bench.verdict import Evidence, Verdict, judge
from muskox import Job, JobState, Muskox, Queue, Retention

__all__ = ["Story", "kill", "soak"]

CONCURRENCY = 20
LONGEST_PAUSE = 0.01
PATIENCE = 600.0
_TOLD = ("completed", "failed", "cancelled")


class Story(msgspec.Struct):
    """What happened: the verdict, and how many kills met a process that held work."""

    verdict: Verdict
    kills: int
    kills_with_work: int
    seconds: float


def kill(store: str, jobs: int, kills: int) -> Report:
    """Two workers, one of them killed and restarted again and again until all jobs are completed."""
    lease = 2.0
    story = asyncio.run(soak(jobs, kills, lease=lease, store=store))
    settings: dict[str, object] = {
        "jobs": jobs, "kills": kills, "processes": 2, "concurrency": CONCURRENCY, "lease": f"{lease:g} s",
        "attempts": ATTEMPTS, "max_stalls": MAX_STALLS,
    }  # fmt: skip
    said = f"python -m bench kill --store {store} --jobs {jobs} --kills {kills}"
    report = Report("kill: worker processes killed by SIGKILL at random points", said, settings)
    report.checks["kills (of them while holding work)"] = f"{story.kills} ({story.kills_with_work})"
    report.checks["seconds"] = round(story.seconds, 1)
    report.checks |= {name.replace("_", " "): count for name, count in msgspec.structs.asdict(story.verdict).items()}
    report.failed = bool(story.verdict.faults)
    return report


async def soak(
    jobs: int, kills: int, *, lease: float, workers: int = 2, patience: float = PATIENCE, store: str = "sqlite"
) -> Story:
    """Let `workers` processes run the jobs, kill one of them `kills` times, and judge what is left."""
    with tempfile.TemporaryDirectory(prefix="muskox-kill-") as folder, fresh(store) as url:
        ledger = Path(folder) / "ledger"
        async with Muskox(url) as ox, asyncio.timeout(patience):
            queue = ox.queue(QUEUE, retention=Retention(completed_most=10**9, failed_most=10**9))
            index_of = await _add(ox, jobs)
            reader = asyncio.create_task(_read_events(ox, index_of))
            herd = _Herd(url, ledger, lease)
            begun = time.monotonic()
            try:
                for _ in range(workers):
                    await herd.start()
                await _kill_some(herd, ledger, jobs, kills)
                while not await _all_ended(queue, jobs):  # noqa: ASYNC110 - other processes end them
                    await asyncio.sleep(0.05)
                seconds = time.monotonic() - begun
            finally:
                await herd.stop()
            await queue.pause()  # the last fact, at which the reader of events ends
            told, trimmed = await reader
            records = [job async for job in _jobs(queue)]
            findings = [str(finding) for finding in await ox.audit()]
        written = entries(ledger)
    at = {index_of[job.id]: job for job in records}
    known = Evidence(
        jobs, ATTEMPTS, MAX_STALLS, written, herd.deaths,
        states={index: str(job.state) for index, job in at.items()},
        attempts={index: job.attempt for index, job in at.items()},
        stalls={index: job.stalls for index, job in at.items()},
        told=told, trimmed=trimmed, findings=findings,
    )  # fmt: skip
    held = {entry.process for entry in written}
    return Story(judge(known), len(herd.deaths), len(held & herd.deaths.keys()), seconds)


class _Herd:
    """The worker processes that are alive, and the moments at which others were killed."""

    def __init__(self, url: str, ledger: Path, lease: float) -> None:
        self.deaths: dict[int, int] = {}
        self._options = {"url": url, "ledger": str(ledger), "concurrency": CONCURRENCY, "lease": lease}
        self._alive: dict[int, asyncio.subprocess.Process] = {}
        self._started = 0

    async def start(self) -> None:
        """Start one more."""
        program = command("herd.work", process=self._started, **self._options)
        self._alive[self._started] = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=subprocess.DEVNULL)
        self._started += 1

    async def kill_one(self) -> None:
        """Kill a random one, as if the power had gone."""
        number = random.choice(list(self._alive))
        process = self._alive.pop(number)
        if process.returncode is not None:
            raise RuntimeError(f"worker process {number} ended by itself with {process.returncode}")
        process.kill()
        await process.wait()
        self.deaths[number] = time.monotonic_ns()

    async def stop(self) -> None:
        """Stop those that are alive, gently."""
        for process in self._alive.values():
            if process.returncode is None:
                process.terminate()
        for process in self._alive.values():
            await process.wait()


async def _kill_some(herd: _Herd, ledger: Path, jobs: int, kills: int) -> None:
    """Kill after a random number of further entries, so that the last kill comes before the last job."""
    most = max(2, int(2 * jobs * 2 * 0.8 / kills))
    for _ in range(kills):
        until = length(ledger) + random.randint(1, most)
        while length(ledger) < min(until, 2 * jobs * 0.98):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.001)
        await asyncio.sleep(random.uniform(0, 0.005))
        await herd.kill_one()
        await herd.start()


async def _add(ox: Muskox, jobs: int) -> dict[str, int]:
    queue = ox.queue(QUEUE)
    index_of: dict[str, int] = {}
    for first in range(0, jobs, 1000):
        numbers = range(first, min(first + 1000, jobs))
        added = await queue.add_many(
            # Said with each job, since this program does not know the processor and what that declares.
            queue.new(
                "tread",
                {"index": index, "pause": random.uniform(0, LONGEST_PAUSE)},
                attempts=ATTEMPTS,
                max_stalls=MAX_STALLS,
            )
            for index in numbers
        )
        index_of.update((job.id, index) for job, index in zip(added, numbers, strict=True))
    return index_of


async def _all_ended(queue: Queue, jobs: int) -> bool:
    states = (await queue.counts()).states
    return sum(states[state] for state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)) == jobs


async def _jobs(queue: Queue) -> AsyncIterator[Job]:
    found = await queue.find()
    while True:
        for job in found.jobs:
            yield job
        if found.cursor is None:
            return
        found = await queue.find(limit=1000, after=found.cursor)


async def _read_events(ox: Muskox, index_of: dict[str, int]) -> tuple[dict[str, Counter[int]], int]:
    """Follow the events from their beginning; returns the facts about each job, and how many were missed."""
    told: dict[str, Counter[int]] = {kind: Counter() for kind in _TOLD}
    trimmed, offset = 0, 0
    async for event in ox.events(after=0):
        if event.kind == "trimmed":
            trimmed += event.offset - offset
        elif event.kind in told:
            told[event.kind][index_of[getattr(event, "job_id", "")]] += 1
        elif event.kind == "paused":
            break
        offset = event.offset
    return told, trimmed
