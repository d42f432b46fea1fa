"""`muskox doctor`: a look at what usually goes wrong, each with its remedy.

It changes nothing, and makes no database where there is none. What it asks costs no scan, but for the audit.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import msgspec

from muskox import Check, JobState, Muskox, MuskoxError, QueueCounts, Scheduled, WorkerRecord
from muskox.cli import render
from muskox.cli.family import AS_JSON, OnStore, on_store, speak
from muskox.cli.progress import watched

__all__ = ["doctor"]

_LATE = 60.0
"""Seconds by which what is due may be late before somebody should look."""
_LONG_WAIT = 3600.0
_SILENT = 15.0


@click.command(cls=OnStore)
@on_store
@click.option("--no-audit", is_flag=True, help="Leave out the full scan, which takes long in a large store.")
@AS_JSON
def doctor(ox: Muskox, *, no_audit: bool, as_json: bool) -> None:
    """Look for what usually goes wrong, and say what to do about it. Exit code 1 when something is.

    It looks at the store's version and settings, its disk or memory, its clock and the rights to it, and at jobs and
    schedules that are stuck.
    """
    found = []
    for check in _examine(ox, audit=not no_audit):
        found.append(check)
        if not as_json:
            _tell(check)
    if as_json:
        click.echo(render.to_json([msgspec.structs.asdict(check) for check in found]))
    sys.exit(0 if all(check.sound for check in found) else 1)


def _tell(check: Check) -> None:
    mark = click.style("ok  ", fg="green") if check.sound else click.style("LOOK", fg="red", bold=True)
    said = check.what if check.sound or not check.remedy else f"{check.what}; {check.remedy}"
    click.echo(f"{mark}  {render.inert(said)}")


def _examine(ox: Muskox, *, audit: bool) -> Iterator[Check]:
    path = _path(ox.url)
    if path is not None:
        if not path.exists():
            yield Check(True, f"there is no database {path} yet; the first job makes it")
            return
        yield from _rights(path)
    try:
        seen = speak(ox, _look)
    except MuskoxError as error:
        yield Check(False, str(error))
        return
    yield Check(True, f"the store opens; {sum(one.total for one in seen.counts)} jobs in {len(seen.counts)} queues")
    yield from seen.checks
    yield from _workers(seen)
    for counts in seen.counts:
        yield from _queue(seen, counts)
    yield from _schedules(seen)
    if audit:
        findings = speak(ox, lambda ox: watched(ox, "audit", ox.audit()))
        for one in findings:
            yield Check(False, f"audit: {one.queue} {one.job_id} {one.what}", "please report it, with this line")
        if not findings:
            yield Check(True, "audit: everything fits")


class _Seen(msgspec.Struct):
    """What one look at the store gave. `gone` are active jobs, by queue, whose worker does not live any more."""

    now: float
    checks: list[Check]
    counts: list[QueueCounts]
    workers: list[WorkerRecord]
    schedules: list[Scheduled]
    overdue: dict[str, float]
    gone: dict[str, int]


async def _look(ox: Muskox) -> _Seen:
    seen = _Seen(
        ox.world.now(), await ox.examine(), await ox.counts(), await ox.workers(), await ox.schedules.list(), {}, {}
    )
    alive = {worker.id for worker in seen.workers}
    for counts in seen.counts:
        line = ox.queue(counts.queue)
        if counts.states[JobState.DELAYED]:
            for job in (await line.find(JobState.DELAYED, limit=1)).jobs:
                seen.overdue[counts.queue] = seen.now - (job.due_us or 0) / 1e6
        if counts.states[JobState.ACTIVE]:
            jobs = (await line.find(JobState.ACTIVE, limit=100)).jobs
            seen.gone[counts.queue] = sum(job.worker not in alive for job in jobs)
    return seen


def _path(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme.lower() != "sqlite":
        return None
    return Path(unquote(parts.path[1:])).absolute() if len(parts.path) > 1 else None


def _rights(path: Path) -> Iterator[Check]:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Check(False, f"{path} can be used by others (mode {stat.filemode(mode)})", f"chmod 600 {path}")
    for what, where in (("", path), ("the folder ", path.parent)):
        if not os.access(where, os.R_OK | os.W_OK):
            yield Check(False, f"{what}{where} may not be written by this user", "give it the rights")
            return
    yield Check(True, f"{path} and its folder may be written")


def _workers(seen: _Seen) -> Iterator[Check]:
    jobs = sum(one.waiting + one.delayed + one.active for one in seen.counts)
    number = len(seen.workers)
    yield Check(
        number > 0 or not jobs, f"{number} live worker{'' if number == 1 else 's'}",
        f"{jobs} jobs are to run; start one with muskox worker PROGRAM",
    )  # fmt: skip
    for one in seen.workers:
        if one.age > _SILENT:
            yield Check(
                False, f"worker {one.id} on {one.host} has given no sign of life for {one.age:.0f} seconds",
                "its process hangs, or the store is slow; its jobs are taken back when their leases end",
            )  # fmt: skip


def _queue(seen: _Seen, one: QueueCounts) -> Iterator[Check]:
    queue, waiting = one.queue, one.states[JobState.WAITING]
    if one.held:
        yield Check(
            False, f"{one.held} of {waiting} jobs that wait in queue {queue} have no live worker with a processor for "
            "their name", "start one, or mend the name",
        )  # fmt: skip
    if one.paused and waiting:
        yield Check(False, f"queue {queue} is paused and {waiting} jobs wait", f"muskox queues resume {queue}")
    elif one.oldest_waiting is not None and one.oldest_waiting > _LONG_WAIT:
        yield Check(
            False, f"a job of queue {queue} has waited for {one.oldest_waiting / 3600:.1f} hours",
            f"muskox jobs list {queue} --state waiting shows it, muskox explain ID says why; or add workers",
        )  # fmt: skip
    late = seen.overdue.get(queue, 0.0)
    if late > _LATE:
        yield Check(
            False, f"a job of queue {queue} was due {late:.0f} seconds ago and is still delayed",
            "a worker of any queue moves it; see that one lives, and that the clocks agree",
        )  # fmt: skip
    if seen.gone.get(queue):
        yield Check(
            False, f"{seen.gone[queue]} active jobs of queue {queue} belong to workers that are gone",
            "a live worker takes them back when their leases have run out; see that one lives",
        )  # fmt: skip


def _schedules(seen: _Seen) -> Iterator[Check]:
    for one in seen.schedules:
        late = 0.0 if one.paused or one.next_at is None else seen.now - one.next_at.timestamp()
        if late > _LATE:
            yield Check(
                False, f"schedule {one.name} should have fired {late:.0f} seconds ago",
                "a worker of any queue fires it; see that one lives",
            )  # fmt: skip
