"""What limits and keys cost: drains of the same jobs without any, under a rate far above them, and with many keys.

And what fairness is worth: when a key with few jobs is done that were added together with very many of another.
"""

from __future__ import annotations

from bench.child import run
from bench.places import fresh
from bench.report import Ratio, Report

__all__ = ["limits"]

CONCURRENCY = 100
KEYS = 10_000
FEW = 100
FAR_ABOVE = 10_000_000
"""Jobs per second that no worker reaches."""

_SIDES: dict[str, dict[str, object]] = {
    "without limits": {},
    "with a rate": {"rate": FAR_ABOVE},
    "with keys": {"keys": KEYS, "key_concurrency": 1},
}


def limits(store: str, jobs: int, rounds: int) -> Report:
    """Drain no-op jobs without limits, with a rate that limits nothing, and with a key each for ten of them."""
    command = f"python -m bench limits --store {store} --jobs {jobs} --rounds {rounds}"
    settings: dict[str, object] = {"jobs": jobs, "keys": KEYS, "rounds": rounds, "concurrency": CONCURRENCY}
    report = Report("limits: jobs run per second by one worker process", command, settings)
    rates: dict[str, list[float]] = {name: [] for name in _SIDES}
    for _ in range(rounds):
        for name, said in _SIDES.items():
            with fresh(store) as url:
                rates[name].append(run("limited.drain", url=url, jobs=jobs, concurrency=CONCURRENCY, **said)["rate"])
    for name, values in rates.items():
        report.add(name, values, "jobs/s")
    report.compare("a rate beside none", "with a rate", "without limits", 0.8)
    report.compare(f"{KEYS:,} keys, one job of each at once, beside none", "with keys", "without limits", 0.4)
    with fresh(store) as url:
        done = run("limited.fair", url=url, many=jobs, few=FEW, concurrency=CONCURRENCY)
    fair = f"{FEW} jobs of a key are done, added with {jobs:,} of another: share of the whole time"
    report.ratios.append(Ratio(fair, 100 * done["share"], 1.0, True, "%"))
    return report
