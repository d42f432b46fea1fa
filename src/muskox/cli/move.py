"""`muskox move`: carry the jobs of one store to another.

How that is done without losing or doubling any is in `muskox.moving`; here one says from where to where.
"""

from __future__ import annotations

import click
import msgspec

from muskox import JobState, Moved, Muskox, QueueCounts, WorkerRecord
from muskox.cli import render
from muskox.cli.family import AS_JSON, shown, speak
from muskox.cli.manage import figure
from muskox.cli.progress import watched

__all__ = ["move"]


@click.command()
@click.argument("from_url")
@click.argument("to_url")
@click.option("--all", "ended", is_flag=True, help="Completed and cancelled jobs too.")
@click.option("--dry-run", is_flag=True, help="Say what would be carried, and change nothing.")
@AS_JSON
def move(from_url: str, to_url: str, *, ended: bool, dry_run: bool, as_json: bool) -> None:
    """Carry the jobs of the store FROM_URL to the store TO_URL.

    Waiting, delayed and failed jobs, as they are and in their order. Stop the workers of FROM_URL first. The queues
    are paused in both stores until the end.

    Interrupted in any way it loses and doubles nothing: give the same command again, and it goes on.
    """
    source, target = Muskox(from_url), Muskox(to_url)
    if dry_run:
        _tell(*speak(source, _look), ended=ended, as_json=as_json)
        return

    async def work(source: Muskox) -> Moved:
        async def left() -> int:
            return sum(figure(one, _carried(ended=ended)) for one in await source.counts())

        async with target:
            return await watched(source, "jobs carried", source.move_to(target, ended=ended), left)

    done = speak(source, work)
    if as_json:
        click.echo(render.to_json({**msgspec.structs.asdict(done), "total": done.total}))
        return
    for queue, jobs in done.carried.items():
        render.say(f"{queue}: {jobs} jobs")
    render.say(f"{done.total} jobs carried to {shown(target)}")
    if done.schedules:
        render.say(f"{done.schedules} schedules carried, with their next moments")
    if done.known:
        render.say(f"{done.known} of them were there already, by queue and id, and stayed as they were there")
    if done.left:
        render.say(f"{done.left} jobs were added to {shown(source)} meanwhile; move again to carry them too")


async def _look(ox: Muskox) -> tuple[list[QueueCounts], list[WorkerRecord]]:
    return await ox.counts(), await ox.workers()


def _carried(*, ended: bool) -> tuple[str, ...]:
    return ("waiting", "delayed", "failed", *(("completed", "cancelled") if ended else ()))


def _tell(counts: list[QueueCounts], workers: list[WorkerRecord], *, ended: bool, as_json: bool) -> None:
    names = _carried(ended=ended)
    carried = {one.queue: figure(one, names) for one in counts if figure(one, names)}
    total = sum(carried.values())
    if as_json:
        active = {one.queue: one.active for one in counts if one.active}
        record = {"carried": carried, "total": total, "active": active, "workers": len(workers), "dry_run": True}
        click.echo(render.to_json(record))
        return
    for one in counts:
        if one.queue in carried:
            figures = ", ".join(f"{one.states[JobState(name)]} {name}" for name in names if one.states[JobState(name)])
            render.say(f"{one.queue}: {figures}")
        if one.active:
            render.say(f"{one.queue}: {one.active} active, which must end first")
    if workers:
        render.say(f"{len(workers)} workers are alive, which must be stopped first")
    render.say(f"{total} jobs would be carried")
