"""Drain, add and bulk: rates beside the limit loop and on SQLite beside Huey, rounds interleaved."""

from __future__ import annotations

from collections.abc import Callable

from bench.child import run
from bench.places import LIMITS, fresh
from bench.report import Report

__all__ = ["add", "bulk", "drain"]

BATCH = 1000
CONCURRENCY = 100
BARE = {"sqlite": "executemany", "redis": "script", "postgres": "statement"}
NORMAL = "NORMAL"
THREADS = (1, 2, 4, 8)
HUEY_SHARE = 10
"""Huey is given a tenth of the jobs, to save time; that favours it, if anything."""

Measure = Callable[[str], float]
"""Given the URL of an empty place for jobs."""


def drain(store: str, jobs: int, rounds: int, *, uvloop: bool = False) -> Report:
    """No-op jobs through one worker process, against the limit loop and, on SQLite, Huey."""
    settings: dict[str, object] = {"jobs": jobs, "rounds": rounds, "concurrency": CONCURRENCY, "uvloop": uvloop}
    report = Report("drain: jobs run per second by one worker process", _said("drain", store, jobs, rounds), settings)
    costs: dict[str, list[float]] = {"worker": [], "limit loop": [], "the same with ids": []}

    def worker(url: str) -> float:
        run("ours.fill", url=url, jobs=jobs)
        found = run("ours.drain", url=url, jobs=jobs, concurrency=CONCURRENCY, uvloop=uvloop)
        costs["worker"].append(found["cost"])
        return float(found["rate"])

    def limit(url: str) -> float:
        run(f"{LIMITS[store]}.fill", url=url, jobs=jobs, batch=BATCH)
        found = run(f"{LIMITS[store]}.drain", url=url, uvloop=uvloop)
        assert found["jobs"] == jobs
        costs["limit loop"].append(found["cost"])
        return float(found["rate"])

    def limit_with_ids(url: str) -> float:
        run(f"{LIMITS[store]}.fill_ids", url=url, jobs=jobs, batch=BATCH)
        found = run(f"{LIMITS[store]}.drain", url=url, with_ids=True, uvloop=uvloop)
        assert found["jobs"] == jobs
        costs["the same with ids"].append(found["cost"])
        return float(found["rate"])

    measures: dict[str, Measure] = {
        "worker": worker, "limit loop": limit, "the same with ids": limit_with_ids,
    }  # fmt: skip
    if store == "sqlite":
        few = max(1, jobs // HUEY_SHARE)
        threads = _best_threads(max(1, few // 4))
        settings["Huey's threads"] = threads
        measures["Huey, our durability"] = lambda url: _huey_drain(url, few, threads, level=NORMAL)
        measures["Huey, its default"] = lambda url: _huey_drain(url, few, threads, level=None)
    _interleave(report, store, measures, rounds)
    for name, values in costs.items():
        report.add(f"{name}, processor time", values, "µs/job")
    report.compare("share of the limit loop", "worker", "limit loop", 0.5)
    report.compare("share of it with ids", "worker", "the same with ids")
    if store == "sqlite":
        report.compare("times Huey, our durability", "worker", "Huey, our durability", 20)
        report.compare("times Huey, its default", "worker", "Huey, its default", 20)
    report.checks["each job ran once, events and audit fit"] = "yes"
    return report


def add(store: str, jobs: int, rounds: int) -> Report:
    """Jobs added one by one, each awaited; on SQLite against Huey's."""
    report = Report("add: jobs added per second, one by one", _said("add", store, jobs, rounds), {"jobs": jobs})
    measures: dict[str, Measure] = {"add, awaited": lambda url: _rate("ours.add", url=url, jobs=jobs)}
    if store == "sqlite":
        measures["Huey, our durability"] = lambda url: _rate("rival.add", path=_path(url), jobs=jobs, level=NORMAL)
        measures["Huey, its default"] = lambda url: _rate("rival.add", path=_path(url), jobs=jobs, level=None)
    _interleave(report, store, measures, rounds)
    if store == "sqlite":
        report.compare("times Huey, our durability", "add, awaited", "Huey, our durability", 3)
        report.compare("times Huey, its default", "add, awaited", "Huey, its default", 3)
    return report


def bulk(store: str, jobs: int, rounds: int) -> Report:
    """Jobs added a thousand at a time, against the barest way to do it."""
    settings: dict[str, object] = {"jobs": jobs, "batch": BATCH}
    report = Report("bulk: jobs added per second, by add_many", _said("bulk", store, jobs, rounds), settings)
    bare = BARE[store]
    measures: dict[str, Measure] = {
        "add_many": lambda url: _rate("ours.fill", url=url, jobs=jobs, batch=BATCH),
        f"bare {bare}": lambda url: _rate(f"{LIMITS[store]}.fill", url=url, jobs=jobs, batch=BATCH),
        "the same with ids": lambda url: _rate(f"{LIMITS[store]}.fill_ids", url=url, jobs=jobs, batch=BATCH),
    }
    _interleave(report, store, measures, rounds)
    report.compare(f"share of {bare}", "add_many", f"bare {bare}", 0.4)
    report.compare(f"share of {bare} with ids", "add_many", "the same with ids")
    return report


def _interleave(report: Report, store: str, measures: dict[str, Measure], rounds: int) -> None:
    """Measure all of them in each round, so that other work on the machine troubles all of them."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            with fresh(store) as url:
                found[name].append(measure(url))
    for name, values in found.items():
        report.add(name, values, "jobs/s")


def _best_threads(jobs: int) -> int:
    rates = {}
    for threads in THREADS:
        with fresh("sqlite") as url:
            rates[threads] = _huey_drain(url, jobs, threads, level=NORMAL)
    return max(rates, key=rates.__getitem__)


def _huey_drain(url: str, jobs: int, threads: int, *, level: str | None) -> float:
    path = _path(url)
    run("rival.add", path=path, jobs=jobs, level="OFF")
    return _rate("rival.drain", path=path, jobs=jobs, threads=threads, level=level)


def _rate(program: str, **options: object) -> float:
    return float(run(program, **options)["rate"])


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


def _said(name: str, store: str, jobs: int, rounds: int) -> str:
    return f"python -m bench {name} --store {store} --jobs {jobs} --rounds {rounds}"
