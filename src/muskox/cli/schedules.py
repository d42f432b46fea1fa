"""Commands on schedules: what there is, when an expression matches, and what a person may do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from muskox import Cron, Entry, Muskox, OptionError, Scheduled, ScheduleNotFound, WrongState
from muskox.cli import render
from muskox.cli.family import AS_JSON, YES, Family, OnStore, load, on_store, shown, speak

__all__ = ["schedules"]


@click.group(cls=Family)
def schedules() -> None:
    """Look at schedules, and pause, run or delete them."""


@schedules.command("list", cls=OnStore)
@on_store
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="How many at most.")
@AS_JSON
def list_schedules(ox: Muskox, *, limit: int, as_json: bool) -> None:
    """Show the schedules in the order of their names, with their next and last moment and the last job's state.

    Moments are in UTC.
    """
    found = speak(ox, lambda ox: ox.schedules.list(limit=limit))
    if as_json:
        click.echo(render.to_json([_record(one) for one in found]))
    elif not found:
        render.say(f"{shown(ox)} has no schedule")
    else:
        render.table(["name", "owner", "when", "queue", "job", "next", "last", "outcome"], map(_row, found))
        if len(found) == limit:
            click.echo(f"… and maybe more; --limit is {limit}", err=True)


def _row(one: Scheduled) -> list[str]:
    next_at = "paused" if one.paused else _said(one.next_at) or "over"
    return [one.name, one.owner, one.explain(), one.queue, one.job, next_at, _said(one.last_at), one.outcome or ""]


def _said(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _record(one: Scheduled) -> dict[str, Any]:
    said = one.schedule
    return {
        "name": one.name, "owner": one.owner, "when": said.when, "explain": one.explain(), "queue": one.queue,
        "job": one.job, "data": one.data, "priority": said.priority, "catch_up": said.catch_up, "grace": said.grace,
        "overlap": said.overlap, "jitter": said.jitter, "paused": one.paused, "next_at": one.next_at,
        "last_at": one.last_at, "last_job": one.last_job, "outcome": one.outcome,
    }  # fmt: skip


@schedules.command()
@click.argument("expression")
@click.option("--tz", default="UTC", show_default=True, metavar="ZONE", help="Whose wall clock, such as Europe/Vienna.")
@click.option(
    "--after", metavar="MOMENT", help="From then on, such as 2026-03-28T12:00; in ZONE unless it says.  [now]"
)
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many moments.")
@AS_JSON
def preview(expression: str, *, tz: str, after: str | None, count: int, as_json: bool) -> None:
    """Say in words what a cron EXPRESSION means, and when it matches next. Needs no store."""
    cron = Cron(expression, tz)
    found = Muskox("sqlite://:memory:").schedules.preview(expression, count, tz=tz, after=_moment(after, tz))
    if as_json:
        said = [{"at": at, "utc": at.astimezone(UTC)} for at in found]
        click.echo(render.to_json({"expression": expression, "tz": tz, "explain": cron.explain(), "moments": said}))
        return
    render.say(cron.explain())
    for at in found:
        render.say(f"{at:%a %Y-%m-%d %H:%M:%S %z}  {at.astimezone(UTC):%H:%M:%S} UTC")


def _moment(text: str | None, tz: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(f"--after {text!r} is no moment; write it as 2026-03-28T12:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(tz))


@schedules.command(cls=OnStore)
@on_store
@click.argument("name")
@AS_JSON
def run(ox: Muskox, name: str, *, as_json: bool) -> None:
    """Add the job of schedule NAME now and print its id; its next moment stays.

    Exit code 1 when its overlap rule does not allow that, since the last job has not ended.
    """
    job = speak(ox, lambda ox: ox.schedules.run_now(name))
    if job is None:
        raise WrongState(f"nothing was added: the last job of schedule {name} has not ended")
    render.answer(job.id, render.job_record(job), as_json=as_json)


@schedules.command(cls=OnStore)
@on_store
@click.argument("name")
@AS_JSON
def pause(ox: Muskox, name: str, *, as_json: bool) -> None:
    """Have schedule NAME fire no more until resume. It holds over restarts and deploys."""
    found = speak(ox, lambda ox: ox.schedules.pause(name))
    render.answer(f"schedule {name} is paused", _record(found), as_json=as_json)


@schedules.command(cls=OnStore)
@on_store
@click.argument("name")
@AS_JSON
def resume(ox: Muskox, name: str, *, as_json: bool) -> None:
    """Have schedule NAME go on with the moments to come."""
    found = speak(ox, lambda ox: ox.schedules.resume(name))
    said = f"schedule {name} goes on" + ("" if found.next_at is None else f" at {_said(found.next_at)} UTC")
    render.answer(said, _record(found), as_json=as_json)


@schedules.command(cls=OnStore)
@on_store
@click.argument("name")
@YES
@AS_JSON
def delete(ox: Muskox, name: str, *, yes: bool, as_json: bool) -> None:
    """Delete schedule NAME with its ledger; jobs that it added are left alone.

    One that is declared in code is put again by the next worker that starts; pause it instead.
    """
    if not yes:
        click.confirm(f"Delete schedule {render.inert(name)}?", abort=True, err=True)
    if not speak(ox, lambda ox: ox.schedules.delete(name)):
        raise ScheduleNotFound(f"there is no schedule {name!r}; it was never added, or deleted")
    render.answer(f"schedule {name} is deleted", {"name": name, "deleted": True}, as_json=as_json)


@schedules.command(cls=OnStore)
@on_store
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many at most.")
@AS_JSON
def ledger(ox: Muskox, name: str, *, limit: int, as_json: bool) -> None:
    """Show what became of the latest moments of schedule NAME, latest first. Moments are in UTC."""

    async def work(ox: Muskox) -> list[Entry]:
        if await ox.schedules.get(name) is None:
            raise ScheduleNotFound(f"there is no schedule {name!r}; it was never added, or deleted")
        return await ox.schedules.ledger(name, limit=limit)

    found = speak(ox, work)
    if as_json:
        click.echo(render.to_json([_entry_record(one) for one in found]))
    elif not found:
        render.say(f"schedule {name} has not fired yet")
    else:
        rows = [[_said(one.moment), one.told, str(one.missed), one.job_id or "", one.reason] for one in found]
        render.table(["moment", "told", "missed", "job", "reason"], rows, right=("missed",), rare=("missed", "reason"))


def _entry_record(one: Entry) -> dict[str, Any]:
    return {"moment": one.moment, "told": one.told, "missed": one.missed, "job_id": one.job_id, "reason": one.reason,
            "at": one.at}  # fmt: skip


@schedules.command()
@click.argument("program", envvar="MUSKOX_PROGRAM")
@YES
@AS_JSON
def prune(program: str, *, yes: bool, as_json: bool) -> None:
    """Delete the schedules that PROGRAM declared once and does not declare any more."""
    ox = load(program)
    left = [one.name for one in speak(ox, lambda ox: ox.schedules.orphans())]
    for name in left:
        click.echo(render.inert(name), err=as_json)
    if left and not yes:
        click.confirm(f"Delete these {len(left)} schedules?", abort=True, err=True)
    deleted = speak(ox, lambda ox: ox.schedules.prune())
    render.answer(f"{len(deleted)} deleted", {"deleted": deleted}, as_json=as_json)
