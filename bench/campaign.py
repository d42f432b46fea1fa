"""What it takes to plan a campaign to very many people: time, and memory that must not grow with them."""

from __future__ import annotations

from bench.child import run
from bench.places import fresh
from bench.report import Ratio, Report

__all__ = ["campaign"]

SECONDS_PER_MILLION = 30.0
GROWTH = 64.0


def campaign(store: str, people: int) -> Report:
    """Fill a list and plan a campaign to it, in chunks of a thousand."""
    command = f"python -m bench campaign --store {store} --jobs {people}"
    report = Report("campaign: a list planned in chunks", command, {"people": people})
    with fresh(store) as url:
        run("campaign.fill", url=url, people=people)
        done = run("campaign.plan", url=url)
    report.add("planned in", [done["took"]], "s")
    report.add("memory that planning took", [done["grown"]], "MB")
    report.checks["planned"] = done["planned"]
    report.failed = done["planned"] != people
    million = done["took"] * 1_000_000 / people
    report.ratios.append(Ratio("seconds for a million people", million, SECONDS_PER_MILLION, below=True, unit="s"))
    report.ratios.append(Ratio("memory grown", done["grown"], GROWTH, below=True, unit="MB"))
    return report
