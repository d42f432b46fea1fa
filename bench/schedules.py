"""How late schedules fire, what a full store of them costs, and whether each moment fires once while workers die."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator

import msgspec

from bench.child import ROOT, command
from bench.places import fresh
from bench.programs.ticking import QUEUE
from bench.report import Ratio, Report
from muskox import ActiveJob, Job, Muskox, Scheduled
from muskox.core.kept import Kept
from muskox.store.protocol import Change, Store

__all__ = ["Beats", "schedules", "soak_schedules"]

KEPT = 10_000
LAGS = 100
LAG_GOAL = 20.0
BURST_GOAL = 2.0
IDLE = 10.0
FAR = 30 * 86_400.0
PATIENCE = 120.0


class Beats(msgspec.Struct):
    """What came of schedules while workers were killed: moments and their jobs, and how late those were added."""

    moments: int
    missed: int
    jobs: int
    unended: int
    kills: int
    lags: list[float]
    findings: list[str]


def schedules(store: str, minutes: float) -> Report:
    """Lag, burst and idle cost with 10 000 schedules in the store; then a soak of so many minutes."""
    # That nobody runs the jobs of the burst is meant so.
    logging.getLogger("muskox").setLevel(logging.CRITICAL)
    settings: dict[str, object] = {"schedules kept": KEPT, "minutes": minutes}
    report = Report("schedules", f"python -m bench schedules --store {store} --minutes {minutes:g}", settings)
    with fresh(store) as url:
        asyncio.run(_with_many(url, report))
    beats = asyncio.run(soak_schedules(store, seconds=60 * minutes, processes=8, pause=2.0))
    report.checks |= {
        "soak: moments": beats.moments, "soak: missed": beats.missed, "soak: jobs": beats.jobs,
        "soak: kills of 8 processes": beats.kills, "soak: findings of the audit": len(beats.findings),
        "soak: lag of adding, median / p99 / most": _spread(beats.lags),
    }  # fmt: skip
    report.failed = bool(beats.missed or beats.unended or beats.findings or beats.jobs != beats.moments)
    return report


# --- with many kept ------------------------------------------------------------------------


async def _with_many(url: str, report: Report) -> None:
    async with Muskox(url) as ox, asyncio.timeout(PATIENCE + IDLE):
        lags: list[float] = []
        ran = Counter[str]()

        @ox.queue(QUEUE).processor("beat")
        async def beat(job: ActiveJob) -> None:
            name, _, moment = job.id.removeprefix("schedule:").rpartition(":")
            ran[name.partition(":")[0]] += 1
            if name.startswith("lag"):
                lags.append(1000 * (time.time() - int(moment) / 1e6))

        async with ox.worker(concurrency=100):
            report.checks["idle worker without any, share of a core"] = f"{await _idle():.4f}"
        await _fill(ox, KEPT)
        async with ox.worker(concurrency=100):
            await ox.schedules.add_every("lag", 0.1, queue=QUEUE, job="beat")
            while len(lags) < LAGS:  # noqa: ASYNC110 - facts of other tasks set no event
                await asyncio.sleep(0.05)
            await ox.schedules.delete("lag")
            await asyncio.sleep(1.0)
            report.add("lag from moment to job running", lags, "ms")
            report.ratios.append(Ratio("lag, median", statistics.median(lags), LAG_GOAL, below=True, unit="ms"))
            report.checks["lag: median / p99 / most"] = _spread(lags)

            report.checks["idle worker with them, share of a core"] = f"{await _idle():.4f}"
        await _burst(ox, report)


async def _fill(ox: Muskox, count: int) -> None:
    """Keep so many schedules whose moments are far."""
    store, plain = await ox.store(), await ox.schedules.add_every("far-0", FAR, queue=QUEUE, job="beat")
    await _put(store, plain, [f"far-{number}" for number in range(1, count)], plain.next_us)


async def _put(store: Store, like: Scheduled, names: list[str], next_us: int | None) -> None:
    said = like.schedule
    for first in range(0, len(names), 1000):
        kept = [Kept(msgspec.structs.replace(said, name=name), next_us=next_us) for name in names[first : first + 1000]]
        made = await store.put_schedules([Change(one.schedule.name, 0, one) for one in kept])
        assert all(made), "the names are new"


async def _burst(ox: Muskox, report: Report) -> None:
    """Have as many due at one moment, and see when the last of their jobs is there."""
    due = time.time() + 5.0
    like = await ox.schedules.add_once("burst-0", after=due - time.time(), queue="burst", job="beat")
    await _put(await ox.store(), like, [f"burst-{number}" for number in range(1, KEPT)], like.next_us)
    due = (like.next_us or 0) / 1e6
    left = due - time.time()
    async with ox.worker():
        await asyncio.sleep(max(0.0, left - 0.05))
        while (await ox.queue("burst").counts()).total < KEPT:  # noqa: ASYNC110 - facts of others set no event
            await asyncio.sleep(0.02)
        took = time.time() - due
    report.ratios.append(
        Ratio(f"firing {KEPT} due at one moment", took, BURST_GOAL if left > 0 else None, below=True, unit="s")
    )


async def _idle() -> float:
    """What this process takes of a core while nothing happens."""
    begun = _cpu(resource.getrusage(resource.RUSAGE_SELF))
    await asyncio.sleep(IDLE)
    return (_cpu(resource.getrusage(resource.RUSAGE_SELF)) - begun) / IDLE


def _cpu(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _spread(lags: list[float]) -> str:
    """Median, 99th percentile and maximum of milliseconds."""
    ordered = sorted(lags)
    return " / ".join(f"{x:.1f}" for x in (statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1]))


# --- while workers die --------------------------------------------------------------------------


async def soak_schedules(
    store: str, *, seconds: float, processes: int, pause: float, interval: float = 1.0, schedules: int = 1
) -> Beats:
    """Let workers fire schedules for so long, killing a random one each `pause` seconds and starting another."""
    with fresh(store) as url:
        async with Muskox(url) as ox:
            options: dict[str, object] = {"url": url, "schedules": schedules, "interval": interval}
            herd = [await _start(number, options) for number in range(processes)]
            kills = 0
            try:
                while not await ox.schedules.list():  # noqa: ASYNC110 - another process declares them
                    await asyncio.sleep(0.05)
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    await asyncio.sleep(pause)
                    victim = herd.pop(random.randrange(len(herd)))
                    assert victim.returncode is None, "a worker ended by itself"
                    victim.kill()
                    await victim.wait()
                    kills += 1
                    herd.append(await _start(processes + kills, options))
                return await _judge(ox, interval, kills)
            finally:
                for process in herd:
                    if process.returncode is None:
                        process.kill()
                    await process.wait()


async def _start(number: int, options: dict[str, object]) -> asyncio.subprocess.Process:
    words = command("ticking.work", process=number, **options)
    return await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, env={**os.environ})


async def _judge(ox: Muskox, interval: float, kills: int) -> Beats:
    """Stop the schedules, let the jobs end, and compare them with the moments that there were."""
    names = [one.name for one in await ox.schedules.list()]
    ended = {name: await ox.schedules.pause(name) for name in names}
    async with asyncio.timeout(PATIENCE):
        while True:
            counts = await ox.queue(QUEUE).counts()
            if not counts.waiting and not counts.active and not counts.delayed:
                break
            await asyncio.sleep(0.05)
    jobs = [job async for job in _jobs(ox)]
    step = round(interval * 1_000_000)
    there = Counter((job.name, int(job.id.rpartition(":")[2])) for job in jobs)
    moments = 0
    for name in names:
        mine = sorted(moment for owner, moment in there if owner == name)
        last = ended[name].last_us
        moments += 0 if not mine or last is None else (last - mine[0]) // step + 1
    lags = [(job.added_us - int(job.id.rpartition(":")[2])) / 1000 for job in jobs]
    unended = sum(job.state != "completed" for job in jobs)
    findings = [str(finding) for finding in await ox.audit()]
    return Beats(moments, moments - len(there), len(jobs), unended, kills, lags, findings)


async def _jobs(ox: Muskox) -> AsyncIterator[Job]:
    after = None
    while True:
        found = await ox.queue(QUEUE).find(limit=1000, after=after)
        for job in found.jobs:
            yield job
        if (after := found.cursor) is None:
            return
