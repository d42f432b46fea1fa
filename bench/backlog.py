"""What a million waiting jobs cost: the drain rate beside that of a short queue, and the time of counts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.child import run
from bench.report import Ratio, Report

__all__ = ["backlog"]

SHORT = 10_000
CONCURRENCY = 100


def backlog(jobs: int, rounds: int) -> Report:
    """Drain the same number of jobs from a long and from a short queue, in turn."""
    command = f"python -m bench backlog --store sqlite --jobs {jobs} --rounds {rounds}"
    settings: dict[str, object] = {"waiting": jobs, "short": SHORT, "drained each round": SHORT, "rounds": rounds}
    report = Report("backlog: jobs run per second with many waiting", command, settings)
    long_rates, short_rates = [], []
    with tempfile.TemporaryDirectory(prefix="muskox-bench-") as folder:
        long_url = f"sqlite:///{folder}/long.db"
        run("ours.fill", url=long_url, jobs=jobs)
        counts = run("ours.counts", url=long_url, samples=200)
        for number in range(rounds):
            long_rates.append(run("ours.drain_some", url=long_url, jobs=SHORT, concurrency=CONCURRENCY)["rate"])
            short_rates.append(_short_rate(Path(folder) / f"short-{number}.db"))
    report.add(f"{jobs:,} waiting", long_rates, "jobs/s")
    report.add(f"{SHORT:,} waiting", short_rates, "jobs/s")
    report.compare("long beside short", f"{jobs:,} waiting", f"{SHORT:,} waiting", 0.8)
    report.ratios.append(Ratio(f"counts of {counts['rows']:,} rows, median", counts["median"], 10, True, "ms"))
    report.ratios.append(Ratio(f"counts of {counts['rows']:,} rows, p95", counts["p95"], 10, True, "ms"))
    return report


def _short_rate(path: Path) -> float:
    run("ours.fill", url=f"sqlite:///{path}", jobs=SHORT)
    return float(run("ours.drain_some", url=f"sqlite:///{path}", jobs=SHORT, concurrency=CONCURRENCY)["rate"])
