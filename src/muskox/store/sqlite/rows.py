"""Turns rows into jobs and options into columns. It runs no statement."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import NO_OPTIONS, Job, JobState, Lease, NewJob, Options
from muskox.core.twins import is_awaited
from muskox.store.protocol import Added
from muskox.store.sqlite.tx import NUMBER, STATE

__all__ = ["added", "claimed", "columns", "failure_text", "full", "options_text", "read_failure", "read_options"]

_ACTIVE = NUMBER[JobState.ACTIVE]

_options = msgspec.json.Decoder(Options)
_failure = msgspec.json.Decoder(Failure)
_encoder = msgspec.json.Encoder()


def claimed(
    row: tuple[Any, ...],
    queue: str,
    name: str,
    token: int,
    now: int,
    worker: str,
    key: str | None = None,
    *,
    tied: bool = False,
) -> Job:
    """The job that a row of `pick` becomes when it is claimed. `tied` by its queue; what the job says comes to that."""
    _, seq, id, priority, arrival, attempt, attempts, stalls, releases, added, options, data, progress, flow, line = row
    said = NO_OPTIONS if options is None else read_options(options)
    tied = tied or flow is not None or line is not None or (options is not None and is_awaited(said))
    return Job(
        id, queue, name, JobState.ACTIVE, priority, data, attempt + 1, attempts, stalls, releases, said,
        added, None, now, None, progress, None, None, worker,
        Lease(queue, id, token, name, attempt + 1, seq, tied),
        None, key, None, arrival,
    )  # fmt: skip


def added(jobs: list[NewJob], now: int, *, flow: str | None = None, held: bool = False) -> list[Added]:
    """The jobs that new ones become when they are stored; alike in all but id, data and key. `held`: see `columns`."""
    first = jobs[0]
    state = _state(first, held=held)
    delayed = state is JobState.DELAYED
    due = now + int(first.delay * 1_000_000) if delayed else None
    queue, name, priority, options = first.queue, first.name, first.priority, first.options
    made = [
        Added(
            Job(
                job.id,
                queue,
                name,
                state,
                priority,
                job.data,
                0,
                options.attempts,
                0,
                0,
                options,
                now,
                due,
                key=job.key,
            ),
            True,
        )
        for job in jobs
    ]
    if flow is None:
        return made
    return [Added(msgspec.structs.replace(one.job, flow=flow), True) for one in made]


def columns(new: NewJob, now: int, *, flow: int | None = None, held: bool = False) -> dict[str, Any]:
    """The columns of a new job that are alike for all jobs added together with the same options.

    `held`: it is blocked by parents, and its delay begins when they have ended. One with a key is blocked until it has
    joined its line.
    """
    state = _state(new, held=held)
    delayed = state is JobState.DELAYED
    moment = now + int(new.delay * 1_000_000) if delayed else now
    return {
        "state": NUMBER[state],
        "flow": flow,
        "priority": new.priority,
        "arrival": moment,
        "due": moment if delayed else None,
        "attempts": new.options.attempts,
        "max_stalls": new.options.max_stalls,
        "now": now,
        "options": options_text(new.options),
    }


def _state(new: NewJob, *, held: bool) -> JobState:
    if held:
        return JobState.BLOCKED
    return JobState.DELAYED if new.delay > 0 else JobState.WAITING if new.key is None else JobState.BLOCKED


def full(row: sqlite3.Row) -> Job:
    """The job in a row of all columns, with the names of its queue and lane."""
    state = STATE[row["state"]]
    active = row["state"] == _ACTIVE
    options = NO_OPTIONS if row["options"] is None else read_options(row["options"])
    return Job(
        id=row["id"],
        queue=row["queue_name"],
        name=row["name"],
        state=state,
        priority=row["priority"],
        data_text=row["data"],
        attempt=row["attempt"],
        attempts=row["attempts"],
        stalls=row["stalls"],
        releases=row["releases"],
        options=options,
        added_us=row["added"],
        due_us=row["due"],
        started_us=row["started"],
        ended_us=row["ended"],
        progress_text=row["progress"],
        result_text=row["result"],
        failure=None if row["failure"] is None else read_failure(row["failure"]),
        worker=row["worker"] if active else None,
        lease=Lease(
            row["queue_name"],
            row["id"],
            row["token"],
            row["name"],
            row["attempt"],
            row["seq"],
            row["flow"] is not None or row["key"] is not None or is_awaited(options),
        )
        if active
        else None,
        steps_text=row["steps"],
        key=row["key"],
        flow=row["flow_name"],
    )


def options_text(options: Options) -> str | None:
    """What a job says for itself, as it is kept."""
    return None if options == NO_OPTIONS else _encoder.encode(options).decode()


def failure_text(failure: Failure | None) -> str | None:
    """A failure as it is kept."""
    return None if failure is None else _encoder.encode(failure).decode()


def read_options(text: str) -> Options:
    """What a job says for itself."""
    # One damaged record must not stop a queue; attempts and stalls are counted from columns of their own.
    try:
        return _options.decode(text)
    except msgspec.DecodeError:
        return NO_OPTIONS


def read_failure(text: str) -> Failure:
    """A failure as it was kept."""
    try:
        return _failure.decode(text)
    except msgspec.DecodeError as error:
        return Failure(FailureKind.ERROR, message=f"(the stored failure is damaged: {error})")
