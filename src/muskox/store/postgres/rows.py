"""Turns rows into jobs and lists into the text of arrays. It runs no statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import NO_OPTIONS, Job, JobState, Lease, NewJob, Options
from muskox.core.twins import is_awaited
from muskox.store.protocol import Added, Want

__all__ = [
    "NUMBER", "STATE", "added", "added_as", "asked", "claimed", "failure_text", "full", "ints", "options_text",
    "place", "places", "pure", "read_failure", "texts",
]  # fmt: skip

STATE: tuple[JobState, ...] = (
    JobState.WAITING,
    JobState.DELAYED,
    JobState.BLOCKED,
    JobState.ACTIVE,
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.CANCELLED,
)
"""States by their numbers in the tables."""

NUMBER: dict[JobState, int] = {state: number for number, state in enumerate(STATE)}

_ACTIVE = NUMBER[JobState.ACTIVE]

_options = msgspec.json.Decoder(Options)
_failure = msgspec.json.Decoder(Failure)
_encoder = msgspec.json.Encoder()


# --- arrays, written by hand: the driver takes several times as long for a list -------


def ints(values: Iterable[int | None]) -> str:
    """An array of whole numbers."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def texts(values: Iterable[str | None]) -> str:
    """An array of texts."""
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def places(leases: Sequence[Lease]) -> str:
    """An array of the places of rows in the table, as leases remember them."""
    return "{" + ",".join([f'"({lease.row >> 16},{lease.row & 65535})"' for lease in leases]) + "}"


def asked(wants: Sequence[Want]) -> list[tuple[str, str | None, int | None]]:
    """What is wanted as rows: queue, name (None: any), and the stalls allowed where something is said."""
    found: list[tuple[str, str | None, int | None]] = []
    for want in wants:
        rest = want.max_stalls.get("")
        if want.names is None:
            found.append((want.queue, None, rest))
            found += [(want.queue, name, stalls) for name, stalls in want.max_stalls.items() if name]
        else:
            found += [(want.queue, name, want.max_stalls.get(name, rest)) for name in sorted(want.names)]
    return found


def place(text: str) -> int:
    """The place of a row, `(block,number)`, as a whole number."""
    block, _, number = text[1:-1].partition(",")
    return int(block) << 16 | int(number)


def pure(text: str) -> str:
    """Text of people without what PostgreSQL cannot keep: a NUL is shown as its picture, half a surrogate as ?."""
    return text.replace("\x00", "\u2400").encode("utf-8", "replace").decode()


# --- jobs -----------------------------------------------------------------------------


def claimed(row: tuple[Any, ...], queue: str, name: str, worker: str) -> Job:
    """The job in a row of `claim`."""
    (_, _, _, where, token, rank, attempt, attempts, stalls, releases, at, started, id, options, data, progress, tied,
     key, arrival) = row  # fmt: skip
    said = NO_OPTIONS if options is None else _read_options(options)
    return Job(
        id, queue, name, JobState.ACTIVE, -rank, data, attempt, attempts, stalls, releases, said,
        at, None, started, None, progress, None, None, worker,
        Lease(queue, id, token, name, attempt, place(where), tied is True or is_awaited(said)), None, key,
        None, arrival,
    )  # fmt: skip


def added(jobs: Sequence[NewJob], now: int, flow: str | None = None) -> list[Added]:
    """The jobs that new ones without a key become when they are stored."""
    return [
        Added(
            Job(
                job.id, job.queue, job.name, JobState.DELAYED if job.delay > 0 else JobState.WAITING, job.priority,
                job.data, 0, job.options.attempts, 0, 0, job.options, now,
                now + int(job.delay * 1_000_000) if job.delay > 0 else None, flow=flow,
            ),
            True,
        )
        for job in jobs
    ]  # fmt: skip


def added_as(jobs: Sequence[NewJob], now: int, states: Sequence[int | None]) -> list[Added]:
    """The jobs that new ones become when they are stored in these states; None: it was known."""
    return [
        Added(
            Job(
                job.id, job.queue, job.name, STATE[state or 0], job.priority, job.data, 0, job.options.attempts, 0, 0,
                job.options, now, now + int(job.delay * 1_000_000) if job.delay > 0 else None, key=job.key,
            ),
            state is not None,
        )
        for job, state in zip(jobs, states, strict=True)
    ]  # fmt: skip


def full(row: tuple[Any, ...]) -> Job:
    """The job in a row of the columns that `statements.sql` names `job`."""
    (where, id, queue, name, state, rank, data, attempt, attempts, stalls, releases, options, at, due, started, ended,
     progress, result, failure, worker, token, steps, tied, key, flow) = row  # fmt: skip
    active = state == _ACTIVE
    said = NO_OPTIONS if options is None else _read_options(options)
    return Job(
        id, queue, name, STATE[state], -rank, data, attempt, attempts, stalls, releases, said,
        at, due, started, ended, progress, result, None if failure is None else read_failure(failure),
        worker if active else None,
        Lease(queue, id, token, name, attempt, place(where), tied is True or is_awaited(said)) if active else None,
        steps, key, flow,
    )  # fmt: skip


def options_text(options: Options) -> str | None:
    """Options as they are kept."""
    return None if options is NO_OPTIONS or options == NO_OPTIONS else _encoder.encode(options).decode()


def failure_text(failure: Failure | None) -> str | None:
    """A failure as it is kept."""
    return None if failure is None else _encoder.encode(failure).decode()


def _read_options(text: str) -> Options:
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
