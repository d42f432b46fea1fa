"""The group `muskox jobs`: list, show and follow jobs. Those that move jobs are in `manage.py`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import click

from muskox import Job, JobNotFound, JobState, LogLine, Muskox
from muskox.cli import render
from muskox.cli.family import AS_JSON, Family, OnStore, on_store, speak

__all__ = ["explain", "jobs"]

_STATES = [state.value for state in JobState]
_LOOK_AGAIN = 0.5


@click.group(cls=Family)
def jobs() -> None:
    """Look at jobs, and retry, cancel, promote or remove them."""


@jobs.command("list", cls=OnStore)
@on_store
@click.argument("queue")
@click.option("--state", type=click.Choice(_STATES), multiple=True, help="Only jobs in this state; may be repeated.")
@click.option("--name", help="Only jobs of this name.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@AS_JSON
def list_jobs(ox: Muskox, queue: str, *, state: tuple[str, ...], name: str | None, limit: int, as_json: bool) -> None:
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


@jobs.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("id")
@AS_JSON
def show(ox: Muskox, queue: str, id: str, *, as_json: bool) -> None:
    """Show one job as a whole, with its log."""
    found, log = speak(ox, lambda ox: _whole(ox, queue, id))
    if as_json:
        click.echo(render.to_json({**render.job_record(found), "log": [_line_record(line) for line in log]}))
    else:
        render.say(render.job_sheet(found, log))


async def _whole(ox: Muskox, queue: str, id: str) -> tuple[Job, list[LogLine]]:
    found, log = await asyncio.gather(ox.queue(queue).get(id), ox.queue(queue).logs(id))
    if found is None:
        raise _missing(queue, id)
    return found, log


def _missing(queue: str, id: str) -> JobNotFound:
    return JobNotFound(f"queue {queue!r} has no job {id!r}; it was never added, or cleared after its time")


def _line_record(line: LogLine) -> dict[str, object]:
    return {"number": line.number, "text": line.text}


@jobs.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("id")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is logged from now on, until the job has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line of the log per line.")
def logs(ox: Muskox, queue: str, id: str, *, follow: bool, as_json: bool) -> None:
    """Print what the runs of a job have logged, line by line."""

    async def work(ox: Muskox) -> None:
        line, after = ox.queue(queue), 0
        while True:
            # The job is asked first, so that nothing which is logged before its end is missed.
            job = await line.get(id)
            found = await line.logs(id, after=after)
            if job is None and not after:
                raise _missing(queue, id)
            for one in found:
                after = one.number
                render.answer(one.text, _line_record(one), as_json=as_json)
            if not follow or job is None or job.ended_at is not None:
                return
            await ox.world.sleep(_LOOK_AGAIN)

    with suppress(KeyboardInterrupt):
        speak(ox, work)


@click.command(cls=OnStore)
@on_store
@click.argument("id")
@click.option("--queue", metavar="NAME", help="The queue of the job, where several have a job of that id.")
@AS_JSON
def explain(ox: Muskox, id: str, *, queue: str | None, as_json: bool) -> None:
    """Say why a job does not run and when it will, or what became of it."""
    found = speak(ox, lambda ox: ox.explain(id) if queue is None else ox.queue(queue).explain(id))
    render.answer(str(found), render.explanation_record(found), as_json=as_json)
