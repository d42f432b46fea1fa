"""What a batch costs: the same jobs added and run as one batch, and plain."""

from __future__ import annotations

from bench.child import run
from bench.places import fresh
from bench.report import Report

__all__ = ["batches"]

CONCURRENCY = 100
_SIDES = {"plain jobs": False, "a batch": True}


def batches(store: str, jobs: int, rounds: int) -> Report:
    """Add no-op jobs and run them, plain and as a batch with a job that follows it."""
    command = f"python -m bench batches --store {store} --jobs {jobs} --rounds {rounds}"
    settings: dict[str, object] = {"jobs": jobs, "rounds": rounds, "concurrency": CONCURRENCY}
    report = Report("batches: jobs added and run per second by one process", command, settings)
    rates: dict[str, list[float]] = {name: [] for name in _SIDES}
    grown: dict[str, list[float]] = {name: [] for name in _SIDES}
    for _ in range(rounds):
        for name, as_batch in _SIDES.items():
            with fresh(store) as url:
                done = run("filled.fill", url=url, jobs=jobs, concurrency=CONCURRENCY, as_batch=as_batch)
            rates[name].append(done["rate"])
            grown[name].append(done["grown"])
    for name, values in rates.items():
        report.add(name, values, "jobs/s")
    for name, values in grown.items():
        report.add(f"{name}: memory that adding took", values, "MB")
    report.compare("a batch beside plain jobs", "a batch", "plain jobs", 1 / 1.5)
    return report
