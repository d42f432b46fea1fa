"""Drain, add and bulk: rates beside the limit loop and beside Huey, rounds interleaved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.child import run
from bench.report import Report

__all__ = ["add", "bulk", "drain"]

BATCH = 1000
CONCURRENCY = 100
NORMAL = "NORMAL"
THREADS = (1, 2, 4, 8)
HUEY_SHARE = 10
"""Huey is given a tenth of the jobs, to save time; that favours it, if anything."""

Measure = Callable[[Path], float]


def drain(jobs: int, rounds: int, *, uvloop: bool = False) -> Report:
    """No-op jobs through one worker process, against the limit loop and Huey."""
    few = max(1, jobs // HUEY_SHARE)
    threads = _best_threads(max(1, few // 4))
    settings: dict[str, object] = {
        "jobs": jobs, "rounds": rounds, "concurrency": CONCURRENCY, "uvloop": uvloop, "Huey's threads": threads,
    }  # fmt: skip
    report = Report("drain: jobs run per second by one worker process", _said("drain", jobs, rounds), settings)

    costs: dict[str, list[float]] = {"worker": [], "limit loop": [], "the same with ids": []}

    def worker(folder: Path) -> float:
        url = f"sqlite:///{folder}/ours.db"
        run("ours.fill", url=url, jobs=jobs)
        found = run("ours.drain", url=url, jobs=jobs, concurrency=CONCURRENCY, uvloop=uvloop)
        costs["worker"].append(found["cost"])
        return float(found["rate"])

    def limit(folder: Path) -> float:
        path = f"{folder}/limit.db"
        run("limit.fill", path=path, jobs=jobs, batch=BATCH)
        found = run("limit.drain", path=path)
        assert found["jobs"] == jobs
        costs["limit loop"].append(found["cost"])
        return float(found["rate"])

    def limit_with_ids(folder: Path) -> float:
        path = f"{folder}/limit.db"
        run("limit.fill_ids", path=path, jobs=jobs, batch=BATCH)
        found = run("limit.drain", path=path, with_ids=True)
        assert found["jobs"] == jobs
        costs["the same with ids"].append(found["cost"])
        return float(found["rate"])

    measures: dict[str, Measure] = {
        "worker": worker,
        "limit loop": limit,
        "the same with ids": limit_with_ids,
        "Huey, our durability": lambda folder: _huey_drain(folder, few, threads, level=NORMAL),
        "Huey, its default": lambda folder: _huey_drain(folder, few, threads, level=None),
    }
    _interleave(report, measures, rounds)
    for name, values in costs.items():
        report.add(f"{name}, processor time", values, "µs/job")
    report.compare("share of the limit loop", "worker", "limit loop", 0.5)
    report.compare("share of it with ids", "worker", "the same with ids")
    report.compare("times Huey, our durability", "worker", "Huey, our durability", 20)
    report.compare("times Huey, its default", "worker", "Huey, its default", 20)
    report.checks["each job ran once, events and audit fit"] = "yes"
    return report


def add(jobs: int, rounds: int) -> Report:
    """Jobs added one by one, each awaited, against Huey's."""
    report = Report("add: jobs added per second, one by one", _said("add", jobs, rounds), {"jobs": jobs})
    measures: dict[str, Measure] = {
        "add, awaited": lambda folder: _rate("ours.add", url=f"sqlite:///{folder}/ours.db", jobs=jobs),
        "Huey, our durability": lambda folder: _rate("rival.add", path=f"{folder}/a.db", jobs=jobs, level=NORMAL),
        "Huey, its default": lambda folder: _rate("rival.add", path=f"{folder}/b.db", jobs=jobs, level=None),
    }
    _interleave(report, measures, rounds)
    report.compare("times Huey, our durability", "add, awaited", "Huey, our durability", 3)
    report.compare("times Huey, its default", "add, awaited", "Huey, its default", 3)
    return report


def bulk(jobs: int, rounds: int) -> Report:
    """Jobs added a thousand at a time, against a bare `executemany`."""
    settings: dict[str, object] = {"jobs": jobs, "batch": BATCH}
    report = Report("bulk: jobs added per second, by add_many", _said("bulk", jobs, rounds), settings)
    measures: dict[str, Measure] = {
        "add_many": lambda folder: _rate("ours.fill", url=f"sqlite:///{folder}/ours.db", jobs=jobs, batch=BATCH),
        "bare executemany": lambda folder: _rate("limit.fill", path=f"{folder}/a.db", jobs=jobs, batch=BATCH),
        "the same with ids": lambda folder: _rate("limit.fill_ids", path=f"{folder}/b.db", jobs=jobs, batch=BATCH),
    }
    _interleave(report, measures, rounds)
    report.compare("share of executemany", "add_many", "bare executemany", 0.4)
    report.compare("share of executemany with ids", "add_many", "the same with ids")
    return report


def _interleave(report: Report, measures: dict[str, Measure], rounds: int) -> None:
    """Measure all of them in each round, so that other work on the machine troubles all of them."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            with tempfile.TemporaryDirectory(prefix="muskox-bench-") as folder:
                found[name].append(measure(Path(folder)))
    for name, values in found.items():
        report.add(name, values, "jobs/s")


def _best_threads(jobs: int) -> int:
    rates = {}
    for threads in THREADS:
        with tempfile.TemporaryDirectory(prefix="muskox-bench-") as folder:
            rates[threads] = _huey_drain(Path(folder), jobs, threads, level=NORMAL)
    return max(rates, key=rates.__getitem__)


def _huey_drain(folder: Path, jobs: int, threads: int, *, level: str | None) -> float:
    path = f"{folder}/huey.db"
    run("rival.add", path=path, jobs=jobs, level="OFF")
    return _rate("rival.drain", path=path, jobs=jobs, threads=threads, level=level)


def _rate(program: str, **options: object) -> float:
    return float(run(program, **options)["rate"])


def _said(name: str, jobs: int, rounds: int) -> str:
    return f"python -m bench {name} --store sqlite --jobs {jobs} --rounds {rounds}"
