"""Commands on a whole queue: pause, resume, drain."""

from __future__ import annotations

import click

from muskox import Muskox
from muskox.cli import render
from muskox.cli.family import OnStore, on_store, speak

__all__ = ["drain", "pause", "resume"]


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
def pause(ox: Muskox, queue: str) -> None:
    """Have no job of QUEUE claimed until resume.

    Running jobs go on. It holds over restarts.
    """

    async def work(ox: Muskox) -> int:
        await ox.queue(queue).pause()
        return (await ox.queue(queue).counts()).total

    render.say(f"queue {queue} is paused" + ("" if speak(ox, work) else "; it has no job"))


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
def resume(ox: Muskox, queue: str) -> None:
    """Have jobs of QUEUE claimed again."""
    speak(ox, lambda ox: ox.queue(queue).resume())
    render.say(f"queue {queue} is open")


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="The delayed jobs too.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
def drain(ox: Muskox, queue: str, *, delayed: bool, yes: bool) -> None:
    """Delete all jobs of QUEUE that wait."""
    if not yes:
        click.confirm(f"Delete all jobs that wait in queue {render.inert(queue)}?", abort=True, err=True)
    render.say(f"{speak(ox, lambda ox: ox.queue(queue).drain(delayed=delayed))} removed")
