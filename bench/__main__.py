"""The commands of the benchmark; what they measure stands in the modules named like them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
import msgspec

from bench.backlog import backlog
from bench.batches import batches
from bench.campaign import campaign
from bench.encodes import encodes
from bench.kill import kill
from bench.latency import latency
from bench.limits import limits
from bench.pages import pages
from bench.peers.command import main as compare
from bench.pictures import pictures
from bench.places import STORES
from bench.report import Report, facts, markdown, show
from bench.schedules import schedules
from bench.soak import soak
from bench.speed import add, bulk, drain
from bench.together import drain_together

JOBS = {"drain": 100_000, "add": 10_000, "bulk": 100_000, "latency": 200, "backlog": 1_000_000, "kill": 100_000}
KILLS = 200
MINUTES = 60.0
RATE = 200
USUAL = {
    "limits": 100_000, "batches": 100_000, "pages": 1_000_000, "campaign": 1_000_000, "soak": RATE, "schedules": 1,
    "encodes": 20, "pictures": 24,
}  # fmt: skip
"""How many, of the commands that `all` leaves out."""


@click.command()
@click.argument("what", type=click.Choice([*JOBS, *USUAL, "all"]))
@click.option("--store", type=click.Choice(STORES), default="sqlite", show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="How many jobs; samples for latency, waiting ones for backlog, per second for soak.",
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--kills", type=click.IntRange(0), default=KILLS, show_default=True, help="Only for kill and encodes.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Only for drain.")
@click.option(
    "--minutes", type=click.FloatRange(0.1), default=MINUTES, show_default=True, help="Only for soak and schedules."
)
@click.option("--uvloop", is_flag=True, help="Run the worker on uvloop (drain and latency).")
@click.option("--json", "as_json", is_flag=True, help="Machine facts, medians and all rounds as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="A table for the README.")
def main(
    *, what: str, store: str, jobs: int | None, rounds: int, kills: int, processes: int, minutes: float,
    uvloop: bool, as_json: bool, as_markdown: bool,
) -> None:  # fmt: skip
    """Measure Muskox: one command, or all that take no more than minutes, with their usual numbers."""
    measures: dict[str, Callable[[int], Report]] = {
        "drain": lambda count: (
            drain(store, count, rounds, uvloop=uvloop)
            if processes == 1
            else drain_together(store, count, rounds, processes)
        ),
        "add": lambda count: add(store, count, rounds),
        "bulk": lambda count: bulk(store, count, rounds),
        "latency": lambda count: latency(store, count, uvloop=uvloop),
        "backlog": lambda count: backlog(store, count, rounds),
        "kill": lambda count: kill(store, count, kills),
        "limits": lambda count: limits(store, count, rounds),
        "batches": lambda count: batches(store, count, rounds),
        "pages": lambda count: pages(store, count, rounds),
        "campaign": lambda people: campaign(store, people),
        "soak": lambda rate: soak(store, minutes, rate),
        "schedules": lambda _: schedules(store, minutes),
        "encodes": lambda count: encodes(count, kills, rounds),
        "pictures": lambda count: pictures(count, rounds),
    }
    reports = []
    for name in JOBS if what == "all" else [what]:
        report = measures[name]((JOBS | USUAL)[name] if jobs is None or what == "all" else jobs)
        reports.append(report)
        if not (as_json or as_markdown):
            show(report)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode({"facts": facts(), "store": store, "reports": reports})).decode())
    if as_markdown:
        print(markdown(reports))
    sys.exit(0 if all(report.reached for report in reports) else 1)


if __name__ == "__main__":
    # The comparison with other systems has options of its own.
    if sys.argv[1:2] == ["compare"]:
        compare(sys.argv[2:])
    main()
