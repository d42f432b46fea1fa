"""Commands that add jobs and move them by hand: add, retry, promote, cancel, remove."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import click

from muskox import JobNotFound, JobState, Muskox, OptionError
from muskox.cli import render
from muskox.cli.family import OnStore, on_store, speak

__all__ = ["add", "cancel", "promote", "remove", "retry"]

_STATES = [state.value for state in JobState]
_UNENDED = ["waiting", "delayed", "blocked", "active"]
_YES = click.option("--yes", "-y", is_flag=True, help="Do not ask first.")


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("name")
@click.argument("data", metavar="[DATA_JSON]", default="null")
@click.option("--priority", type=int, help="Higher runs sooner.")
@click.option("--delay", type=float, default=0.0, metavar="SECONDS", help="Not before so many seconds from now.")
@click.option("--key", help="Groups it with others, for limits per key and turns.")
@click.option("--id", help="A known id adds nothing and gives the stored job.")
@click.option("--attempts", type=int, help="How many runs are allowed in all.")
@click.option("--expires-in", type=float, metavar="SECONDS", help="It fails unless it begins within so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the stored job as JSON, and not its id.")
def add(ox: Muskox, queue: str, name: str, data: str, *, as_json: bool, **options: Any) -> None:
    """Add a job NAME to QUEUE and print its id.

    DATA_JSON is the job's data; - reads it from the standard input. With PROGRAM, what is left out follows the
    declaration of its processor.
    """
    value = _read(sys.stdin.read() if data == "-" else data)
    added = speak(ox, lambda ox: ox.queue(queue).add(name, value, **options))
    if as_json:
        click.echo(render.to_json(render.job_record(added)))
    else:
        render.say(added.id)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"DATA_JSON {text[:60]!r} is not JSON: {error}; write it as '{{\"key\": 1}}'") from None


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All failed jobs of the queue.")
@click.option("--name", help="With --all: only jobs of this name.")
def retry(ox: Muskox, queue: str, ids: tuple[str, ...], *, every: bool, name: str | None) -> None:
    """Let failed or cancelled jobs run once more."""
    _check(ids, every=every, name=name)

    async def work(ox: Muskox) -> int:
        return await ox.queue(queue).retry_all(name) if every else len([await ox.queue(queue).retry(id) for id in ids])

    render.say(f"{speak(ox, work)} to run again")


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All delayed jobs of the queue.")
@click.option("--name", help="With --all: only jobs of this name.")
def promote(ox: Muskox, queue: str, ids: tuple[str, ...], *, every: bool, name: str | None) -> None:
    """Let delayed jobs run now."""
    _check(ids, every=every, name=name)

    async def work(ox: Muskox) -> int:
        line = ox.queue(queue)
        return await line.promote_all(name) if every else len([await line.promote(id) for id in ids])

    render.say(f"{speak(ox, work)} promoted")


def _moment(_: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(f"{option.opts[0]} {text!r} is no moment; write it as 2026-03-28T12:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All jobs of the queue that have not ended.")
@click.option("--name", help="With --all: only jobs of this name.")
@click.option("--state", "states", type=click.Choice(_UNENDED),
              multiple=True, help="With --all: only jobs in this state; may be repeated.")  # fmt: skip
@click.option("--added-before", metavar="MOMENT", callback=_moment,
              help="With --all: only jobs added before 2026-03-28T12:00 UTC, say, or +01:00.")  # fmt: skip
@_YES
def cancel(
    ox: Muskox, queue: str, ids: tuple[str, ...], *, every: bool, name: str | None, states: tuple[str, ...],
    added_before: datetime | None, yes: bool,
) -> None:  # fmt: skip
    """End jobs that have not ended; a run is told to stop."""
    _check(ids, every=every, name=name)
    if not every and (states or added_before):
        raise OptionError("--state and --added-before narrow --all down and say nothing without it; add --all")
    if every and not yes:
        _ask(f"Cancel all jobs of queue {queue} that have not ended?")

    async def work(ox: Muskox) -> int:
        line = ox.queue(queue)
        if every:
            return await line.cancel_all(name, state=states or None, added_before=added_before)
        return len([await line.cancel(id) for id in ids])

    render.say(f"{speak(ox, work)} cancelled")


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True,
              help="All jobs in this state; may be repeated.")  # fmt: skip
@click.option("--name", help="With --state: only jobs of this name.")
@_YES
def remove(
    ox: Muskox, queue: str, ids: tuple[str, ...], *, states: tuple[str, ...], name: str | None, yes: bool
) -> None:
    """Delete jobs, in whatever state they are."""
    _check(ids, every=bool(states), name=name, option="--state")
    if states and not yes:
        _ask(f"Delete all {' and '.join(states)} jobs of queue {queue}?")

    async def work(ox: Muskox) -> int:
        if states:
            return await ox.queue(queue).remove_all(states, name=name)
        for id in ids:
            if not await ox.queue(queue).remove(id):
                raise JobNotFound(f"queue {queue!r} has no job {id!r}; it was never added, or cleared after its time")
        return len(ids)

    render.say(f"{speak(ox, work)} removed")


def _ask(question: str) -> None:
    click.confirm(render.inert(question), abort=True, err=True)


def _check(ids: tuple[str, ...], *, every: bool, name: str | None, option: str = "--all") -> None:
    if every and ids:
        raise OptionError(f"{option} and the id {ids[0]!r} both say which jobs; give one of them")
    if not every and not ids:
        raise OptionError(f"no job is named; give ids, or {option}")
    if name is not None and not every:
        raise OptionError(f"--name {name!r} narrows {option} down and says nothing without it; add {option}")
