"""Turns what Redis keeps into jobs and events, and new jobs into what it keeps. It asks nobody.

The layout of a record is told on top of `lua/base.lua`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from muskox.core.events import Event, Record, pack, unfold
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import NO_OPTIONS, Job, JobState, Lease, NewJob, Options
from muskox.core.twins import is_awaited
from muskox.store.protocol import Added
from muskox.store.redis.ids import longs, short, shorts

__all__ = [
    "AWAITED",
    "LETTER",
    "STATE",
    "Reader",
    "added",
    "events",
    "failure_text",
    "groups",
    "options_text",
    "packed",
    "read_failure",
]

STATE = {
    b"W": JobState.WAITING,
    b"D": JobState.DELAYED,
    b"B": JobState.BLOCKED,
    b"A": JobState.ACTIVE,
    b"C": JobState.COMPLETED,
    b"F": JobState.FAILED,
    b"X": JobState.CANCELLED,
}
"""States by the letters in records."""

LETTER = {state: letter.decode() for letter, state in STATE.items()}

packed = msgspec.msgpack.Encoder().encode
"""What a step is about, as the one text in which it travels."""

_options = msgspec.json.Decoder(Options)
_failure = msgspec.json.Decoder(Failure)
_json = msgspec.json.Encoder()
_raw = msgspec.Raw

_ACTIVE = 65
_KEY_MARK = 193

AWAITED = 1
"""The `row` of a lease for whose end something is kept that is to be added then."""


class _Head(msgspec.Struct, array_like=True, gc=False):
    name: str
    priority: int = 0
    added: int = 0
    attempts: int = 0
    max_stalls: int = -1
    options: str = ""
    attempt: int = 0
    stalls: int = 0
    releases: int = 0
    started: int = 0
    worker: str = ""
    due: int = 0
    ended: int = 0
    clear_at: int = 0
    last: int = 0
    progress: str = ""
    failure: str = ""
    steps: str = ""
    key: str = ""
    """Not here: it stands before the array."""
    flow: str = ""


_head = msgspec.msgpack.Decoder(_Head)


class Reader:
    """Reads records of one queue; those that were made together share what is read once."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._heads: dict[bytes, tuple[_Head, Options, int]] = {}

    def job(self, id: str, record: bytes, arrival: int | None = None) -> Job:
        """The job that a record tells of; `arrival` is that of a job that was just claimed, where it is known."""
        head_ends = 15 + int.from_bytes(record[8:11], "big")
        data_begins = head_ends + int.from_bytes(record[11:15], "big")
        key, text = None, record[15:head_ends]
        if record[15] == _KEY_MARK:
            key, text = _split(text)
        found = self._heads.get(text)
        if found is None:
            head = _head.decode(text)
            options = _read_options(head.options)
            found = self._heads[text] = head, options, AWAITED if is_awaited(options) else 0
        head, options, awaited = found
        lease = None
        if record[0] == _ACTIVE:
            token = int.from_bytes(record[1:8], "big")
            tied = awaited != 0 or key is not None or head.flow != ""
            lease = Lease(self._queue, id, token, head.name, head.attempt, awaited, tied)
        try:
            result, data = record[head_ends:data_begins].decode(), record[data_begins:].decode()
        except UnicodeDecodeError:
            # The run fails over data that are no JSON, and the rest of the queue goes on.
            result, data = _mended(record[head_ends:data_begins]), _mended(record[data_begins:])
        return Job(
            id, self._queue, head.name, STATE[record[:1]], head.priority, data,
            head.attempt, head.attempts or None, head.stalls, head.releases, options, head.added, head.due or None,
            head.started or None, head.ended or None, head.progress or None,
            result or None, read_failure(head.failure) if head.failure else None,
            head.worker if lease is not None else None, lease, head.steps or None, key, head.flow or None,
            arrival,
        )  # fmt: skip

    def clear_at(self, record: bytes) -> int | None:
        """When the job of a record is cleared, if it has a time of its own."""
        text = record[15 : 15 + int.from_bytes(record[8:11], "big")]
        return _head.decode(_split(text)[1] if text[0] == _KEY_MARK else text).clear_at or None


def _split(text: bytes) -> tuple[str, bytes]:
    """The key that stands before a head, and the head."""
    begins = 3 + int.from_bytes(text[1:3], "big")
    return text[3:begins].decode(), text[begins:]


def _mended(text: bytes) -> str:
    return text.decode(errors="replace")


def _read_options(text: str) -> Options:
    # One damaged record must not stop a queue; attempts and stalls are counted from fields of their own.
    try:
        return _options.decode(text) if text else NO_OPTIONS
    except msgspec.DecodeError:
        return NO_OPTIONS


def read_failure(text: str) -> Failure:
    """A failure from the text that is kept."""
    try:
        return _failure.decode(text)
    except msgspec.DecodeError as error:
        return Failure(FailureKind.ERROR, message=f"(the stored failure is damaged: {error})")


def failure_text(failure: Failure | None) -> str:
    """A failure as it is kept; "" for none."""
    return "" if failure is None else _json.encode(failure).decode()


def options_text(options: Options) -> str:
    """What a job says for itself, as it is kept; "" for nothing."""
    return "" if options == NO_OPTIONS else _json.encode(options).decode()


# --- new jobs --------------------------------------------------------------------------


def groups(jobs: Sequence[NewJob]) -> list[tuple[Any, ...]]:
    """New jobs as `add.lua` wants them: those alike together, in their order."""
    found = []
    for (queue, name, priority, delay, options, tied), its in groupby(
        jobs, key=lambda job: (job.queue, job.name, job.priority, job.delay, job.options, _is_tied(job))
    ):
        some = list(its)
        found.append((
            queue, name, priority, int(delay * 1_000_000) if delay > 0 else -1,
            options.attempts or 0, -1 if options.max_stalls is None else options.max_stalls,
            options_text(options), shorts([short(job.id) for job in some]), [job.data for job in some],
            tied and [_ties(job) for job in some],
        ))  # fmt: skip
    return found


def _is_tied(job: NewJob) -> bool:
    return job.key is not None


def _ties(job: NewJob) -> tuple[Any, ...]:
    """What a job has to do with others, as `adding.lua` takes it."""
    return (job.key or "",)


def added(jobs: Sequence[NewJob], answer: Sequence[Any], flow: str | None = None) -> list[Added]:
    """The answers to new jobs from that of `add.lua`; `flow` is where they join, if anywhere."""
    now, blocked, told = answer
    known, held = dict(zip(told[::2], told[1::2], strict=True)), frozenset(blocked)
    answers = []
    for place, job in enumerate(jobs, 1):
        if place in known:
            answers.append(Added(Reader(job.queue).job(job.id, known[place]), False))
            continue
        delayed = job.delay > 0
        state = JobState.DELAYED if delayed else JobState.BLOCKED if place in held else JobState.WAITING
        answers.append(
            Added(
                Job(
                    job.id, job.queue, job.name, state, job.priority,
                    job.data, 0, job.options.attempts, 0, 0, job.options, now,
                    now + int(job.delay * 1_000_000) if delayed else None, key=job.key, flow=flow,
                ),
                True,
            )
        )  # fmt: skip
    return answers


# --- facts -----------------------------------------------------------------------------


class _About(msgspec.Struct, array_like=True, gc=False):
    """What a record of events says beside ids or text."""

    queue: str
    kind: str
    at: int
    names: str | list[str] = ""
    attempts: int | list[int] = 0
    extras: list[str] | None = None


_about = msgspec.msgpack.Decoder(_About)


def _items(about: _About, ids: list[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a record that was packed by columns."""
    names, attempts, extras = about.names, about.attempts, about.extras
    for place, id in enumerate(ids):
        name = names if isinstance(names, str) else names[place]
        attempt = attempts if isinstance(attempts, int) else attempts[place]
        if extras is None:
            yield id, name, attempt
        else:
            yield id, name, attempt, *map(_raw, _parts(extras[place]))


def _parts(extra: str) -> Iterable[bytes]:
    """The JSON values that a fact says beside job and attempt."""
    return [bytes(value) for value in msgspec.json.decode(f"[{extra}]".encode(), type=list[msgspec.Raw])]


def events(records: Iterable[tuple[bytes, Sequence[bytes]]], after: int, queue: str | None) -> Iterator[Event]:
    """The facts in records of the stream whose offsets are greater than `after`, of one queue or of all."""
    for id, fields in records:
        about = _about.decode(fields[1])
        if queue is not None and about.queue != queue:
            continue
        last, _, size = id.partition(b"-")
        body = pack(list(_items(about, longs(fields[3])))) if fields[2] == b"i" else fields[3].decode()
        record = Record(int(last) - int(size) + 1, int(size), about.queue, about.kind, about.at, body)
        yield from unfold(record, after=after)
