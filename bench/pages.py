"""What the dashboard costs: its calls with a million jobs, and a worker's rate while fifty pages are open."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bench.child import ROOT, command, run
from bench.places import fresh
from bench.report import Ratio, Report

__all__ = ["pages"]

SAMPLES = 200
WATCHERS = 50
DRAINED = 100_000
CONCURRENCY = 100
LONGEST = 3600.0
GOALS = {"overview": 300, "job": 300}
"""Milliseconds; 50 for all other calls."""


def pages(store: str, jobs: int, rounds: int) -> Report:
    """Ask everything that a page asks, with `jobs` waiting; then drain with and without watchers, in turn."""
    said = f"python -m bench pages --store {store} --jobs {jobs} --rounds {rounds}"
    drained = min(jobs, DRAINED)
    settings: dict[str, object] = {
        "waiting": jobs,
        "watchers": WATCHERS,
        "drained each round": drained,
        "rounds": rounds,
    }
    report = Report("pages: what the dashboard costs", said, settings)
    with fresh(store) as url:
        run("ours.fill", url=url, jobs=jobs)
        found = run("pages.ask", url=url, samples=SAMPLES)
    for name, times in found.items():
        goal = GOALS.get(name, 50)
        report.ratios.append(Ratio(f"{name}, {jobs:,} jobs, median", times["median"], goal, below=True, unit="ms"))
    report.checks["p95 in ms"] = {name: round(times["p95"], 1) for name, times in found.items()}
    rates: dict[int, list[float]] = {0: [], WATCHERS: []}
    for _ in range(rounds):
        for watchers, its in rates.items():
            with fresh(store) as url:
                run("ours.fill", url=url, jobs=drained)
                with _watching(url, watchers) if watchers else nullcontext():
                    its.append(float(run("ours.drain_some", url=url, jobs=drained, concurrency=CONCURRENCY)["rate"]))
    report.add("drain, nobody watches", rates[0], "jobs/s")
    report.add(f"drain, {WATCHERS} watch", rates[WATCHERS], "jobs/s")
    report.compare("watched beside unwatched", f"drain, {WATCHERS} watch", "drain, nobody watches", 0.97)
    return report


@contextmanager
def _watching(url: str, watchers: int) -> Iterator[None]:
    """Open pages in a process of its own, and close them at the end."""
    words = command("pages.watch", url=url, watchers=watchers, seconds=LONGEST)
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"watching":
            raise RuntimeError("the dashboard did not begin")
        yield
    finally:
        process.kill()
        process.communicate()
