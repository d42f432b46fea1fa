"""`muskox move`: carry the jobs of one store to another.

How that is done without losing or doubling any is in `muskox.moving`; here one says from where to where.
"""

from __future__ import annotations

import click

from muskox import Muskox, QueueCounts, WorkerRecord
from muskox.cli import render
from muskox.cli.family import shown, speak

__all__ = ["move"]


@click.command()
@click.argument("from_url")
@click.argument("to_url")
@click.option("--all", "ended", is_flag=True, help="Completed and cancelled jobs too.")
@click.option("--dry-run", is_flag=True, help="Say what would be carried, and change nothing.")
def move(from_url: str, to_url: str, *, ended: bool, dry_run: bool) -> None:
    """Carry the jobs of the store FROM_URL to the store TO_URL.

    Waiting, delayed and failed jobs, as they are and in their order. Stop the workers of FROM_URL first. The queues
    are paused in both stores until the end.

    Interrupted in any way it loses and doubles nothing: give the same command again, and it goes on.
    """
    source, target = Muskox(from_url), Muskox(to_url)
    if dry_run:
        _tell(*speak(source, _look), ended=ended)
        return

    async def work(source: Muskox) -> None:
        async with target:
            done = await source.move_to(target, ended=ended)
        for queue, jobs in done.carried.items():
            render.say(f"{queue}: {jobs} jobs")
        render.say(f"{done.total} jobs carried to {shown(target)}")
        if done.schedules:
            render.say(f"{done.schedules} schedules carried, with their next moments")
        if done.known:
            render.say(f"{done.known} of them were there already, by queue and id, and stayed as they were there")
        if done.left:
            render.say(f"{done.left} jobs were added to {shown(source)} meanwhile; move again to carry them too")

    speak(source, work)


async def _look(ox: Muskox) -> tuple[list[QueueCounts], list[WorkerRecord]]:
    return await ox.counts(), await ox.workers()


def _tell(counts: list[QueueCounts], workers: list[WorkerRecord], *, ended: bool) -> None:
    total = 0
    for one in counts:
        states = {state.value: number for state, number in one.states.items()}
        names = ("waiting", "delayed", "failed", *(("completed", "cancelled") if ended else ()))
        figures = ", ".join(f"{states[name]} {name}" for name in names if states[name])
        carried = sum(states[name] for name in names)
        total += carried
        if carried:
            render.say(f"{one.queue}: {figures}")
        if one.active:
            render.say(f"{one.queue}: {one.active} active, which must end first")
    if workers:
        render.say(f"{len(workers)} workers are alive, which must be stopped first")
    render.say(f"{total} jobs would be carried")
