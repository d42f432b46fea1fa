"""`muskox workers`: the live workers, one line each."""

from __future__ import annotations

import click

from muskox import Muskox, WorkerRecord
from muskox.cli import render
from muskox.cli.family import AS_JSON, OnStore, on_store, shown, speak

__all__ = ["state_of", "workers"]


@click.command(cls=OnStore)
@on_store
@AS_JSON
def workers(ox: Muskox, *, as_json: bool) -> None:
    """Show the live workers: where they are, what they take, how many jobs they run, and when they last said so."""
    found = sorted(speak(ox, Muskox.workers), key=lambda one: (one.host, one.pid))
    if as_json:
        click.echo(render.to_json([render.worker_record(one) for one in found]))
    elif not found:
        render.say(f"no worker is alive on {shown(ox)}; muskox worker PROGRAM starts one")
    else:
        columns = ["host", "process", "running", "slots", "state", "beat", "queues", "id"]
        render.table(columns, map(_row, found), right=("process", "running", "slots", "beat"))


def _row(one: WorkerRecord) -> list[str]:
    queues = ", ".join(sorted({want.queue for want in one.wants}))
    return [one.host, str(one.pid), str(one.running), str(one.slots), state_of(one), f"{one.age:.0f} s", queues, one.id]


def state_of(one: WorkerRecord) -> str:
    """What a worker is about: running, idle or stopping."""
    return "stopping" if one.stopping else "running" if one.running else "idle"
