"""What a benchmark found: rounds of figures, ratios beside their goals; shown as a table, JSON or Markdown.

A ratio is the median of the ratios of each round, not the ratio of medians:
both sides of a round ran one after the other, under about the same weather.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

__all__ = ["Ratio", "Report", "facts", "markdown", "show"]


class Series(msgspec.Struct):
    """One figure in all its rounds."""

    unit: str
    rounds: list[float]
    median: float


class Ratio(msgspec.Struct):
    """A figure that is compared with a goal: at least, or with `below` at most, so much."""

    name: str
    value: float
    goal: float | None = None
    below: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.below else self.value >= self.goal


class Report(msgspec.Struct):
    """The findings of one command."""

    title: str
    command: str
    settings: dict[str, object]
    series: dict[str, Series] = {}
    ratios: list[Ratio] = []
    checks: dict[str, object] = {}
    failed: bool = False

    def add(self, name: str, values: list[float], unit: str) -> None:
        """Put in the rounds of a figure."""
        self.series[name] = Series(unit, values, statistics.median(values))

    def compare(self, name: str, above: str, under: str, goal: float | None = None) -> None:
        """Put in the ratio of two figures, round by round."""
        pairs = zip(self.series[above].rounds, self.series[under].rounds, strict=True)
        self.ratios.append(Ratio(name, statistics.median(one / other for one, other in pairs), goal))

    @property
    def reached(self) -> bool:
        """Whether no goal was missed and nothing failed."""
        return not self.failed and all(ratio.reached is not False for ratio in self.ratios)


def facts() -> dict[str, object]:
    """What one must know of machine and code to read the figures."""
    root = Path(__file__).parent.parent
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "machine": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "revision": said.stdout.strip() or "unknown",
        "switch_interval": sys.getswitchinterval(),
    }


def show(report: Report) -> None:
    """Print a report for people."""
    console = Console(width=120)
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    table = Table(title=f"{report.title}\n{settings}", title_justify="left")
    for heading in ("", "median", "unit", "rounds"):
        table.add_column(heading, justify="right" if heading == "median" else "left")
    for name, series in report.series.items():
        rounds = " ".join(number(value) for value in series.rounds[:8])
        table.add_row(name, number(series.median), series.unit, rounds)
    table.add_section()
    for ratio in report.ratios:
        table.add_row(ratio.name, f"[bold]{number(ratio.value)}[/bold]", ratio.unit, _goal(ratio))
    if report.checks:
        table.add_section()
    for name, value in report.checks.items():
        table.add_row(name, str(value))
    console.print(table)


def markdown(reports: list[Report]) -> str:
    """A table for `bench/README.md`: figures, goals and the commands that give them."""
    lines = ["| command | figure | measured | goal |", "|---|---|---:|---|"]
    for report in reports:
        lines += [
            f"| `{report.command}` | {name} | {number(series.median)} {series.unit} | |"
            for name, series in report.series.items()
        ]
        lines += [
            f"| `{report.command}` | **{ratio.name}** | **{number(ratio.value)}** {ratio.unit} | {_goal(ratio)} |"
            for ratio in report.ratios
        ]
        lines += [f"| `{report.command}` | {name} | {value} | |" for name, value in report.checks.items()]
    told = ", ".join(f"{name} {value}" for name, value in facts().items())
    return "\n".join([*lines, "", f"Measured with: {told}."])


def number(value: float) -> str:
    """A figure with three or four digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _goal(ratio: Ratio) -> str:
    if ratio.goal is None:
        return ""
    said = "reached" if ratio.reached else "MISSED"
    return f"{'≤' if ratio.below else '≥'} {ratio.goal:g} {said}"
