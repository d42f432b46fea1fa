"""Commands on the store as a whole: migrate, audit."""

from __future__ import annotations

import sys

import click

from muskox import Muskox
from muskox.cli import render
from muskox.cli.family import OnStore, on_store, shown, speak

__all__ = ["audit", "migrate"]


@click.command(cls=OnStore)
@on_store
def migrate(ox: Muskox) -> None:
    """Bring the tables of the store up to date. Opening a store does that too; this is for doing it in time."""
    speak(ox, Muskox.migrate)
    render.say(f"the tables of {shown(ox)} are up to date")


@click.command(cls=OnStore)
@on_store
def audit(ox: Muskox) -> None:
    """Compare figures and states with a full scan.

    Exit code 1 when something does not fit. Slow in a large store.
    """
    findings = speak(ox, Muskox.audit)
    for one in findings:
        render.say("  ".join(part for part in (one.queue, one.job_id, one.what) if part))
    render.say(f"{len(findings)} findings" if findings else "everything fits")
    sys.exit(1 if findings else 0)
