"""Commands on flows and batches: what there is, how far one is, and what a person may do about it as a whole."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from muskox import FlowNotFound, FlowRecord, Found, JobState, Muskox
from muskox.cli import render
from muskox.cli.family import AS_JSON, Family, OnStore, on_store, shown, speak

__all__ = ["flows"]

_STATES = [state.value for state in JobState]


@click.group(cls=Family)
def flows() -> None:
    """Look at flows and batches, and cancel, retry or close them."""


@flows.command("list", cls=OnStore)
@on_store
@click.option("--unended", is_flag=True, help="Only those that have not ended, open batches too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@AS_JSON
def list_flows(ox: Muskox, *, unended: bool, limit: int, as_json: bool) -> None:
    """Show flows and batches with their figures, latest first. Moments are in UTC."""
    found = speak(ox, lambda ox: ox.flows.list(unended=unended, limit=limit))
    if as_json:
        click.echo(render.to_json([_record(one) for one in found.flows]))
    elif not found.flows:
        render.say(f"{shown(ox)} has no {'flow that has not ended' if unended else 'flow'}")
    else:
        right = ("total", "completed", "failed", "cancelled", "progress")
        columns = ["id", "kind", "state", *right, "added", "ended"]
        render.table(columns, map(_row, found.flows), right=right, rare=("failed", "cancelled", "ended"))
        if found.cursor is not None:
            click.echo(f"… and more; --limit is {limit}", err=True)


@flows.command(cls=OnStore)
@on_store
@click.argument("id")
@click.option("--state", type=click.Choice(_STATES), multiple=True, help="Only jobs in this state; may be repeated.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many jobs at most.")
@AS_JSON
def show(ox: Muskox, id: str, *, state: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Show flow or batch ID with those of its jobs that are still there, in the order of their adding."""

    async def work(ox: Muskox) -> tuple[FlowRecord, Found]:
        flow = await ox.flows.get(id)
        if flow is None:
            raise FlowNotFound(f"there is no flow or batch {id!r}; it was never added, or cleared after its end")
        return flow, await ox.flows.jobs(id, state or None, limit=limit)

    flow, found = speak(ox, work)
    if as_json:
        click.echo(render.to_json({**_record(flow), "jobs": [render.job_record(job) for job in found.jobs]}))
        return
    render.say(
        f"{flow.kind} {flow.id} is {flow.state}: {flow.ended} of {flow.total} jobs have ended, "
        f"{flow.completed} completed, {flow.failed} failed, {flow.cancelled} cancelled"
    )
    rows = [
        [job.queue, job.id, job.name, job.state, "" if job.failure is None else str(job.failure)[:80]]
        for job in found.jobs
    ]
    if rows:
        render.table(["queue", "id", "name", "state", "failure"], rows, rare=("failure",))
    if found.cursor is not None:
        click.echo(f"… and more; --limit is {limit}", err=True)


@flows.command(cls=OnStore)
@on_store
@click.argument("id")
@AS_JSON
def retry(ox: Muskox, id: str, *, as_json: bool) -> None:
    """Let the jobs of flow or batch ID that failed or were cancelled run again, in their order."""
    jobs = speak(ox, lambda ox: ox.flows.retry(id))
    render.answer(f"{jobs} jobs of {id} will run again", {"id": id, "retried": jobs}, as_json=as_json)


@flows.command(cls=OnStore)
@on_store
@click.argument("id")
@AS_JSON
def cancel(ox: Muskox, id: str, *, as_json: bool) -> None:
    """Cancel the jobs of flow or batch ID that have not ended, and let nothing be added to it any more."""
    jobs = speak(ox, lambda ox: ox.flows.cancel(id))
    render.answer(f"{jobs} jobs of {id} are cancelled", {"id": id, "cancelled": jobs}, as_json=as_json)


@flows.command(cls=OnStore)
@on_store
@click.argument("id")
@AS_JSON
def close(ox: Muskox, id: str, *, as_json: bool) -> None:
    """Let nothing be added any more to batch ID, whose producer is gone."""
    found = speak(ox, lambda ox: ox.flows.close(id))
    render.answer(f"{found.kind} {found.id} is {found.state}", _record(found), as_json=as_json)


def _row(one: FlowRecord) -> list[str]:
    return [
        one.id, one.kind, one.state, str(one.total), str(one.completed), str(one.failed), str(one.cancelled),
        f"{one.progress:.0%}", _said(one.added_at), _said(one.ended_at),
    ]  # fmt: skip


def _said(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _record(one: FlowRecord) -> dict[str, Any]:
    return {
        "id": one.id, "kind": one.kind, "state": one.state, "total": one.total, "completed": one.completed,
        "failed": one.failed, "cancelled": one.cancelled, "progress": one.progress, "added_at": one.added_at,
        "ended_at": one.ended_at, "completed_job": one.completed_job, "completed_added": one.completed_added,
        "settled_job": one.settled_job, "settled_added": one.settled_added,
    }  # fmt: skip
