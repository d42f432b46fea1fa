"""Lets a worker process run at a steady rate for long, and looks whether anything grows that should not.

It adds jobs at that rate, of which one in a hundred fails; it samples the worker and the store every few seconds and
judges by the slope of a line through the samples after the first part, in which caches, retention and the events
reach their size.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from bench.ledger import Mark, entries
from bench.places import fresh
from bench.programs.steady import ATTEMPTS, QUEUE
from bench.report import Ratio, Report
from bench.sampling import Sample, sample
from bench.together import workers
from muskox import JobState, Muskox, Queue, Retention

__all__ = ["SAID", "Soaked", "growth", "soak", "soaked"]

CONCURRENCY = 20
FAIL_EACH = 100
KEPT = 2000
BEAT = 0.1
PATIENCE = 120.0
SETTLED = 300.0
"""Seconds after which the store has reached its size: the events that are kept are then as many as ever will be."""
SAID = {"memory": "resident memory of the worker", "descriptors": "its file descriptors", "threads": "its threads",
        "size": "size of the store"}  # fmt: skip
ALLOWED = {"memory": 0.05, "descriptors": 0.05, "threads": 0.05, "size": 0.05}
UNITS = {"memory": "MiB", "descriptors": "", "threads": "", "size": "MiB"}


class Soaked(msgspec.Struct):
    """What was seen: the samples, and what became of the jobs."""

    samples: list[Sample]
    added: int
    lost: int
    started_too_often: int
    longest_backlog: int
    findings: list[str]


def soak(store: str, minutes: float, rate: int) -> Report:
    """So many jobs in a second for so many minutes."""
    settings: dict[str, object] = {
        "minutes": minutes, "jobs per second": rate, "one fails in": FAIL_EACH, "kept": KEPT,
        "concurrency": CONCURRENCY,
    }  # fmt: skip
    said = f"python -m bench soak --store {store} --minutes {minutes:g} --jobs {rate}"
    report = Report("soak: a worker at a steady rate, and what grows", said, settings)
    seconds = 60 * minutes
    with fresh(store) as url:
        seen = asyncio.run(soaked(store, url, seconds, rate=rate, every=max(0.5, min(5.0, seconds / 60))))
    first = max(seconds / 4, SETTLED)
    for name, told in SAID.items():
        values = [getattr(one, name) for one in seen.samples]
        report.add(told, [value / 2**20 if UNITS[name] else value for value in values], UNITS[name])
        # A run that ends before the store has its size can only show its figures.
        judged = [one for one in seen.samples if one.at >= first] if seconds >= 2 * SETTLED else seen.samples
        goal = ALLOWED[name] if seconds >= 2 * SETTLED else None
        report.ratios.append(Ratio(f"{told}: growth from end to end", growth(judged, name), goal, below=True))
    report.checks |= {
        "jobs": seen.added, "lost": seen.lost, "started too often": seen.started_too_often,
        "most jobs behind": seen.longest_backlog, "audit findings": len(seen.findings),
    }  # fmt: skip
    report.failed = bool(seen.lost or seen.started_too_often or seen.findings)
    return report


def growth(samples: list[Sample], name: str) -> float:
    """How much a straight line through the samples rises from the first to the last, as part of their mean."""
    moments, values = [one.at for one in samples], [float(getattr(one, name)) for one in samples]
    slope = statistics.linear_regression(moments, values).slope
    return slope * (moments[-1] - moments[0]) / statistics.fmean(values)


async def soaked(store: str, url: str, seconds: float, *, rate: int, every: float) -> Soaked:
    """Add at the rate for so long, let all end, and look at what was written."""
    with tempfile.TemporaryDirectory(prefix="muskox-soak-") as folder:
        ledger = Path(folder) / "ledger"
        options = {
            "url": url, "ledger": str(ledger), "concurrency": CONCURRENCY, "kept": KEPT, "fail_each": FAIL_EACH,
        }  # fmt: skip
        async with Muskox(url) as ox:
            queue = ox.queue(QUEUE, retention=Retention(completed_most=KEPT, failed_most=KEPT // 10))
            async with workers("steady.work", 1, **options) as [worker]:
                while not await ox.workers():  # noqa: ASYNC110 - another process starts
                    await asyncio.sleep(0.02)
                look = partial(sample, worker.pid, store, url)
                samples, added, behind = await _feed(queue, look, seconds, rate, every)
                async with asyncio.timeout(PATIENCE):
                    while await _unended(queue):  # noqa: ASYNC110 - another process ends them
                        await asyncio.sleep(0.05)
            findings = [str(finding) for finding in await ox.audit()]
        starts, ends = Counter[int](), Counter[int]()
        for entry in entries(ledger):
            (starts if entry.mark is Mark.BEGUN else ends)[entry.job] += 1
    failing = range(0, added, FAIL_EACH)
    return Soaked(
        samples=samples,
        added=added,
        lost=sum(not (starts if job in failing else ends)[job] for job in range(added)),
        started_too_often=sum(count > (ATTEMPTS if job in failing else 1) for job, count in starts.items()),
        longest_backlog=behind,
        findings=findings,
    )


async def _feed(
    queue: Queue, look: Callable[[float], Sample], seconds: float, rate: int, every: float
) -> tuple[list[Sample], int, int]:
    """Add at the rate, by the clock and not by turns; gives the samples, how many were added and most behind."""
    begun, added, behind = time.monotonic(), 0, 0
    samples: list[Sample] = []
    while (passed := time.monotonic() - begun) < seconds:
        due = int(passed * rate)
        await queue.add_many(("step", {"index": index}) for index in range(added, due))
        added = max(added, due)
        if passed >= every * (len(samples) + 1):
            # A store is asked for its size by a blocking client, beside this loop.
            samples.append(await asyncio.to_thread(look, passed))
            behind = max(behind, (await queue.counts()).states[JobState.WAITING])
        await asyncio.sleep(BEAT)
    return samples, added, behind


async def _unended(queue: Queue) -> int:
    states = (await queue.counts()).states
    return sum(states[state] for state in (JobState.WAITING, JobState.DELAYED, JobState.ACTIVE))
