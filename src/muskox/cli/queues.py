"""The group `muskox queues`: what each queue holds, and pause, resume, drain and clean."""

from __future__ import annotations

from typing import Any

import click

from muskox import JobState, Muskox, QueueCounts
from muskox.cli import render
from muskox.cli.family import AS_JSON, YES, Family, OnStore, on_store, shown, speak
from muskox.cli.manage import figure
from muskox.cli.progress import watched

__all__ = ["queues"]

_STATES = [state.value for state in JobState]
_ENDED = ["completed", "failed", "cancelled"]


@click.group(cls=Family)
def queues() -> None:
    """Look at queues, and pause, resume, drain or clean them."""


@queues.command("list", cls=OnStore)
@on_store
@AS_JSON
def list_queues(ox: Muskox, *, as_json: bool) -> None:
    """Show how many jobs each queue has in each state.

    Held are those among the waiting whose name no live worker can run; oldest is how long the first of them has waited.
    """
    found = speak(ox, Muskox.counts)
    if as_json:
        click.echo(render.to_json([render.count_record(one) for one in found]))
    elif not found:
        render.say(f"no queue of {shown(ox)} has had a job yet")
    else:
        columns = ["queue", *_STATES, "total", "held", "oldest"]
        render.table(columns, map(_row, found), right=columns[1:], rare=("blocked", "held", "oldest"))


def _row(found: QueueCounts) -> list[str]:
    oldest = "" if found.oldest_waiting is None else f"{found.oldest_waiting:.1f} s"
    name = f"{found.queue} (paused)" if found.paused else found.queue
    return [name, *(str(found.states[state]) for state in JobState), str(found.total), str(found.held), oldest]


@queues.command(cls=OnStore)
@on_store
@click.argument("queue")
@AS_JSON
def pause(ox: Muskox, queue: str, *, as_json: bool) -> None:
    """Have no job of QUEUE claimed until resume.

    Running jobs go on. It holds over restarts.
    """

    async def work(ox: Muskox) -> int:
        await ox.queue(queue).pause()
        return (await ox.queue(queue).counts()).total

    said = f"queue {queue} is paused" + ("" if speak(ox, work) else "; it has no job")
    render.answer(said, {"queue": queue, "paused": True}, as_json=as_json)


@queues.command(cls=OnStore)
@on_store
@click.argument("queue")
@AS_JSON
def resume(ox: Muskox, queue: str, *, as_json: bool) -> None:
    """Have jobs of QUEUE claimed again."""
    speak(ox, lambda ox: ox.queue(queue).resume())
    render.answer(f"queue {queue} is open", {"queue": queue, "paused": False}, as_json=as_json)


@queues.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="The delayed jobs too.")
@YES
@AS_JSON
def drain(ox: Muskox, queue: str, *, delayed: bool, yes: bool, as_json: bool) -> None:
    """Delete all jobs of QUEUE that wait."""
    if not yes:
        click.confirm(f"Delete all jobs that wait in queue {render.inert(queue)}?", abort=True, err=True)
    states = ["waiting", "delayed"] if delayed else ["waiting"]

    async def work(ox: Muskox) -> int:
        line = ox.queue(queue)

        async def left() -> int:
            return figure(await line.counts(), states)

        return await watched(ox, f"{queue}: drained", line.drain(delayed=delayed), left)

    _tell(speak(ox, work), as_json=as_json)


@queues.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.option("--state", "states", type=click.Choice(_ENDED), multiple=True,
              help="Jobs that ended in this state; may be repeated.  [completed]")  # fmt: skip
@click.option("--older-than", type=float, default=0.0, metavar="SECONDS",
              help="Only those that ended at least so long ago.  [0: all]")  # fmt: skip
@YES
@AS_JSON
def clean(
    ox: Muskox, queue: str, *, states: tuple[str, ...], older_than: float, yes: bool, as_json: bool
) -> None:  # fmt: skip
    """Delete jobs of QUEUE that have ended, oldest first."""
    chosen: Any = states or ("completed",)
    if not yes:
        which = f"{' and '.join(chosen)} jobs of queue {render.inert(queue)}"
        when = f" that ended {older_than:g} seconds ago or earlier" if older_than else ""
        click.confirm(f"Delete the {which}{when}?", abort=True, err=True)

    async def work(ox: Muskox) -> int:
        line = ox.queue(queue)

        async def left() -> int:
            return figure(await line.counts(), chosen)

        return await watched(ox, f"{queue}: cleaned", line.clean(chosen, older_than=older_than), left)

    _tell(speak(ox, work), as_json=as_json)


def _tell(removed: int, *, as_json: bool) -> None:
    render.answer(f"{removed} removed", {"removed": removed}, as_json=as_json)
