"""Commands that look: counts of queues, pages of jobs, one job as a whole."""

from __future__ import annotations

import asyncio

import click

from muskox import Job, JobNotFound, JobState, LogLine, Muskox, QueueCounts
from muskox.cli import render
from muskox.cli.family import OnStore, on_store, shown, speak

__all__ = ["counts", "explain", "job", "jobs"]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_STATES = [state.value for state in JobState]


@click.command(cls=OnStore)
@on_store
@_JSON
def counts(ox: Muskox, *, as_json: bool) -> None:
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


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.option("--state", type=click.Choice(_STATES), multiple=True, help="Only jobs in this state; may be repeated.")
@click.option("--name", help="Only jobs of this name.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@_JSON
def jobs(ox: Muskox, queue: str, *, state: tuple[str, ...], name: str | None, limit: int, as_json: bool) -> None:
    """List jobs of QUEUE, state by state.

    Waiting ones in the order in which they run, delayed by due, ended ones latest first. With --json, one job per line.
    """
    found = speak(ox, lambda ox: ox.queue(queue).find(state or None, name=name, limit=limit))
    if as_json:
        for one in found.jobs:
            click.echo(render.to_json(render.job_record(one)))
        return
    if not found.jobs:
        render.say(f"queue {queue} has no such job")
        return
    columns = ["id", "name", "state", "priority", "attempt", "added", "failure"]
    render.table(columns, map(_line, found.jobs), right=("priority", "attempt"), rare=("priority", "failure"))
    if found.cursor is not None:
        click.echo(f"… and more; --limit is {limit}", err=True)


def _line(job: Job) -> list[str]:
    failure = "" if job.failure is None else str(job.failure)
    return [job.id, job.name, job.state, str(job.priority), str(job.attempt), f"{job.added_at:%m-%d %H:%M:%S}",
            failure[:80]]  # fmt: skip


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("id")
@_JSON
def job(ox: Muskox, queue: str, id: str, *, as_json: bool) -> None:
    """Show one job as a whole, with its log."""
    found, log = speak(ox, lambda ox: _whole(ox, queue, id))
    if as_json:
        lines = [{"number": line.number, "text": line.text} for line in log]
        click.echo(render.to_json({**render.job_record(found), "log": lines}))
    else:
        render.say(render.job_sheet(found, log))


@click.command(cls=OnStore)
@on_store
@click.argument("id")
@click.option("--queue", metavar="NAME", help="The queue of the job, where several have a job of that id.")
@_JSON
def explain(ox: Muskox, id: str, *, queue: str | None, as_json: bool) -> None:
    """Say why a job does not run and when it will, or what became of it."""
    found = speak(ox, lambda ox: ox.explain(id) if queue is None else ox.queue(queue).explain(id))
    if as_json:
        click.echo(render.to_json(render.explanation_record(found)))
    else:
        render.say(str(found))


async def _whole(ox: Muskox, queue: str, id: str) -> tuple[Job, list[LogLine]]:
    found, log = await asyncio.gather(ox.queue(queue).get(id), ox.queue(queue).logs(id))
    if found is None:
        raise JobNotFound(f"queue {queue!r} has no job {id!r}; it was never added, or cleared after its time")
    return found, log
