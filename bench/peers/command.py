"""The command `python -m bench compare`: its options, and what it prints."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markdown import Markdown

from bench.peers.compare import Plan, compare
from bench.peers.field import FIELD
from bench.peers.page import fill
from bench.peers.table import markdown, ratios
from bench.report import facts

__all__ = ["main"]


@click.command("python -m bench compare")
@click.option("--store", type=click.Choice(sorted(FIELD)), required=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(0.1), default=4.0, show_default=True, help="About, per figure and side."
)
@click.option("--samples", type=click.IntRange(1), default=100, show_default=True, help="Jobs for the pick-up time.")
@click.option(
    "--waiting", type=click.IntRange(1), default=20_000, show_default=True, help="Jobs to weigh in the store."
)
@click.option("--only", multiple=True, help="Only others whose names begin so; may be given several times.")
@click.option(
    "--killed", type=click.FloatRange(0), default=0.0, help="Seconds to wait for a killed worker's job; 0: no."
)
@click.option("--server", multiple=True, metavar="NAME=VALUE", help="A setting of the servers besides the usual ones.")
@click.option("--json", "as_json", is_flag=True, help="Machine facts, all rounds and ratios as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The tables for docs/explanation/compared.md.")
@click.option("--keep", type=click.Path(path_type=Path), help="Write the JSON to this file besides.")
@click.option("--page", type=click.Path(path_type=Path, exists=True), help="Put the tables into this page besides.")
def main(
    *,
    store: str,
    rounds: int,
    seconds: float,
    samples: int,
    waiting: int,
    only: tuple[str, ...],
    killed: float,
    server: tuple[str, ...],
    as_json: bool,
    as_markdown: bool,
    keep: Path | None,
    page: Path | None,
) -> None:
    """Measure Muskox beside other systems on one store, interleaved; make their environments first."""
    # A plain termination would leave servers behind; this way they are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = compare(Plan(store, rounds, seconds, samples, waiting, only, _settings(server), killed))
    goals = ratios(found)
    document = {"facts": facts(), "comparison": found, "ratios": goals}
    text = msgspec.json.format(msgspec.json.encode(document)).decode()
    if keep:
        keep.write_text(text)
    if page:
        page.write_text(fill(page.read_text(), store, markdown(found)))
    if as_json:
        print(text)
    elif as_markdown:
        print(markdown(found))
    else:
        Console(width=200).print(Markdown(markdown(found)))
    sys.exit(1 if any(goal.reached is False for goal in goals) else 0)


def _settings(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [setting.partition("=") for setting in given]
    if any(not sign for _, sign, _ in pairs):
        raise click.BadParameter(f"--server takes NAME=VALUE, not {' '.join(given)!r}")
    return {name: value for name, _, value in pairs}
