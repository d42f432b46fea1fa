"""Commands that add jobs and move them by hand: `add`, and in the group `jobs` retry, promote, cancel and remove."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine
from datetime import UTC, datetime
from typing import Any

import click

from muskox import AppQueue, JobNotFound, JobState, Muskox, OptionError, QueueCounts
from muskox.cli import render
from muskox.cli.family import AS_JSON, YES, OnStore, on_store, speak
from muskox.cli.jobs import jobs
from muskox.cli.progress import watched

__all__ = ["add", "figure"]

_STATES = [state.value for state in JobState]
_UNENDED = ["waiting", "delayed", "blocked", "active"]
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say how many that would be, and change nothing.")


@click.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("name")
@click.argument("data", metavar="[DATA_JSON]", default="null")
@click.option("--priority", type=int, help="Higher runs sooner.")
@click.option("--delay", type=float, default=0.0, metavar="SECONDS", help="Not before so many seconds from now.")
@click.option("--key", help="Groups it with others, for limits per key and turns.")
@click.option(
    "--dedup", metavar="KEY", help="Adds nothing while a job with this key has not ended, and gives that one."
)
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
    render.answer(added.id, render.job_record(added), as_json=as_json)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"DATA_JSON {text[:60]!r} is not JSON: {error}; write it as '{{\"key\": 1}}'") from None


@jobs.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All failed jobs of the queue.")
@click.option("--name", help="With --all: only jobs of this name.")
@_DRY_RUN
@AS_JSON
def retry(ox: Muskox, queue: str, ids: tuple[str, ...], *, every: bool, name: str | None, **said: bool) -> None:
    """Let failed or cancelled jobs run once more."""
    _check(ids, every=every, name=name)
    verb = _Verb("retried", "to run again", ["failed"], AppQueue.retry, lambda line: line.retry_all(name))
    _do(ox, queue, verb, ids, name=name, **said)


@jobs.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All delayed jobs of the queue.")
@click.option("--name", help="With --all: only jobs of this name.")
@_DRY_RUN
@AS_JSON
def promote(ox: Muskox, queue: str, ids: tuple[str, ...], *, every: bool, name: str | None, **said: bool) -> None:
    """Let delayed jobs run now."""
    _check(ids, every=every, name=name)
    verb = _Verb("promoted", "promoted", ["delayed"], AppQueue.promote, lambda line: line.promote_all(name))
    _do(ox, queue, verb, ids, name=name, **said)


def _moment(_: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(f"{option.opts[0]} {text!r} is no moment; write it as 2026-03-28T12:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@jobs.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All jobs of the queue that have not ended.")
@click.option("--name", help="With --all: only jobs of this name.")
@click.option("--state", "states", type=click.Choice(_UNENDED), multiple=True,
              help="With --all: only jobs in this state; may be repeated.")  # fmt: skip
@click.option("--added-before", callback=_moment, metavar="MOMENT",
              help="With --all: only jobs added before 2026-03-28T12:00 UTC, say, or +01:00.")  # fmt: skip
@YES
@_DRY_RUN
@AS_JSON
def cancel(
    ox: Muskox, queue: str, ids: tuple[str, ...], *, every: bool, name: str | None, states: tuple[str, ...],
    added_before: datetime | None, yes: bool, **said: bool,
) -> None:  # fmt: skip
    """End jobs that have not ended; a run is told to stop."""
    _check(ids, every=every, name=name)
    if not every and (states or added_before):
        raise OptionError("--state and --added-before narrow --all down and say nothing without it; add --all")
    if said["dry_run"] and added_before:
        raise OptionError("--dry-run counts no jobs by their age; leave --added-before out to learn how many there are")
    if every and not yes and not said["dry_run"]:
        _ask(f"Cancel all jobs of queue {queue} that have not ended?")
    verb = _Verb(
        "cancelled", "cancelled", states or _UNENDED, AppQueue.cancel,
        lambda line: line.cancel_all(name, state=states or None, added_before=added_before),
    )  # fmt: skip
    _do(ox, queue, verb, ids, name=name, **said)


@jobs.command(cls=OnStore)
@on_store
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True,
              help="All jobs in this state; may be repeated.")  # fmt: skip
@click.option("--name", help="With --state: only jobs of this name.")
@YES
@_DRY_RUN
@AS_JSON
def remove(
    ox: Muskox, queue: str, ids: tuple[str, ...], *, states: tuple[str, ...], name: str | None, yes: bool, **said: bool
) -> None:
    """Delete jobs, in whatever state they are."""
    _check(ids, every=bool(states), name=name, option="--state")
    if states and not yes and not said["dry_run"]:
        _ask(f"Delete all {' and '.join(states)} jobs of queue {queue}?")
    verb = _Verb("removed", "removed", states, _removed, lambda line: line.remove_all(states, name=name))
    _do(ox, queue, verb, ids, name=name, **said)


async def _removed(line: AppQueue, id: str) -> None:
    if not await line.remove(id):
        raise JobNotFound(f"queue {line.name!r} has no job {id!r}; it was never added, or cleared after its time")


class _Verb:
    """What one of these commands does to one job or to all that match, and how it tells of it."""

    def __init__(
        self,
        record: str,
        said: str,
        states: Collection[str],
        one: Callable[[AppQueue, str], Awaitable[object]],
        every: Callable[[AppQueue], Coroutine[Any, Any, int]],
    ) -> None:
        self.record = record
        self.said = said
        self.states = states
        self.one = one
        self.every = every


def _do(
    ox: Muskox, queue: str, verb: _Verb, ids: tuple[str, ...], *, name: str | None, dry_run: bool, as_json: bool
) -> None:
    async def work(ox: Muskox) -> int:
        line = ox.queue(queue)

        async def left() -> int:
            return figure(await line.counts(), verb.states, name)

        if dry_run:
            return len(ids) or await left()
        if ids:
            return len([await verb.one(line, id) for id in ids])
        return await watched(ox, f"{queue}: {verb.record}", verb.every(line), left)

    done = speak(ox, work)
    text = f"{done} would be {verb.record}" if dry_run else f"{done} {verb.said}"
    render.answer(text, {verb.record: done, "dry_run": dry_run}, as_json=as_json)


def figure(counts: QueueCounts, states: Collection[str], name: str | None = None) -> int:
    """How many jobs are in these states, by the figures that the store keeps up."""
    found = counts.states
    if name is not None:
        found = next((one.states for one in counts.names if one.name == name), {})
    return sum(found.get(JobState(state), 0) for state in states)


def _ask(question: str) -> None:
    click.confirm(render.inert(question), abort=True, err=True)


def _check(ids: tuple[str, ...], *, every: bool, name: str | None, option: str = "--all") -> None:
    if every and ids:
        raise OptionError(f"{option} and the id {ids[0]!r} both say which jobs; give one of them")
    if not every and not ids:
        raise OptionError(f"no job is named; give ids, or {option}")
    if name is not None and not every:
        raise OptionError(f"--name {name!r} narrows {option} down and says nothing without it; add {option}")
