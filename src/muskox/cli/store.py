"""Commands on the store as a whole: migrate, audit."""

from __future__ import annotations

import sys

import click

from muskox import Muskox
from muskox.cli import render
from muskox.cli.family import AS_JSON, OnStore, on_store, shown, speak
from muskox.cli.progress import watched

__all__ = ["audit", "migrate"]


@click.command(cls=OnStore)
@on_store
@AS_JSON
def migrate(ox: Muskox, *, as_json: bool) -> None:
    """Bring the tables of the store up to date. Opening a store does that too; this is for doing it in time."""
    done = speak(ox, Muskox.migrate)
    render.answer(f"the tables of {shown(ox)} are up to date", {"applied": done}, as_json=as_json)


@click.command(cls=OnStore)
@on_store
@AS_JSON
def audit(ox: Muskox, *, as_json: bool) -> None:
    """Compare figures and states with a full scan.

    Exit code 1 when something does not fit. Slow in a large store.
    """
    findings = speak(ox, lambda ox: watched(ox, "audit", ox.audit()))
    if as_json:
        click.echo(render.to_json(findings))
    else:
        for one in findings:
            render.say("  ".join(part for part in (one.queue, one.job_id, one.what) if part))
        render.say(f"{len(findings)} findings" if findings else "everything fits")
    sys.exit(1 if findings else 0)
