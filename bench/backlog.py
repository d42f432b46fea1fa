"""What a million waiting jobs cost: the drain rate beside that of a short queue, and the time of counts."""

from __future__ import annotations

from bench.child import run
from bench.places import fresh
from bench.report import Ratio, Report

__all__ = ["backlog"]

SHORT = 10_000
CONCURRENCY = 100
GOALS = {"sqlite": 0.8, "redis": 0.9, "postgres": 0.8}


def backlog(store: str, jobs: int, rounds: int) -> Report:
    """Drain the same number of jobs from a long and from a short queue, in turn."""
    command = f"python -m bench backlog --store {store} --jobs {jobs} --rounds {rounds}"
    settings: dict[str, object] = {"waiting": jobs, "short": SHORT, "drained each round": SHORT, "rounds": rounds}
    report = Report("backlog: jobs run per second with many waiting", command, settings)
    long_rates, short_rates = [], []
    with fresh(store) as long_url:
        run("ours.fill", url=long_url, jobs=jobs)
        counts = run("ours.counts", url=long_url, samples=200)
        for _ in range(rounds):
            long_rates.append(run("ours.drain_some", url=long_url, jobs=SHORT, concurrency=CONCURRENCY)["rate"])
            short_rates.append(_short_rate(store))
    report.add(f"{jobs:,} waiting", long_rates, "jobs/s")
    report.add(f"{SHORT:,} waiting", short_rates, "jobs/s")
    report.compare("long beside short", f"{jobs:,} waiting", f"{SHORT:,} waiting", GOALS[store])
    report.ratios.append(Ratio(f"counts of {counts['rows']:,} rows, median", counts["median"], 10, True, "ms"))
    report.ratios.append(Ratio(f"counts of {counts['rows']:,} rows, p95", counts["p95"], 10, True, "ms"))
    return report


def _short_rate(store: str) -> float:
    with fresh(store) as url:
        run("ours.fill", url=url, jobs=SHORT)
        return float(run("ours.drain_some", url=url, jobs=SHORT, concurrency=CONCURRENCY)["rate"])
