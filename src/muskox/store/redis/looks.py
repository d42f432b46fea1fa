"""Reads answers of the server as figures, workers, log lines and pages of jobs. It asks nobody."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from muskox.core.errors import OptionError
from muskox.core.job import JobState
from muskox.core.limits import NO_LIMITS
from muskox.store.protocol import LogLine, NameCount, QueueCounts, Standing, WorkerRecord
from muskox.store.redis.flows import read_parents
from muskox.store.redis.ids import long, packable
from muskox.store.redis.limits import key_state, queue_limits
from muskox.store.redis.records import Reader

__all__ = [
    "ALIVE", "counts", "log_lines", "page_end", "place_after", "read_cursor", "standing", "workers", "write_cursor",
]  # fmt: skip

ALIVE = 30_000_000
"""A worker whose last beat is older than so many microseconds is not counted as live."""

_BY_NUMBER = (
    JobState.WAITING, JobState.DELAYED, JobState.BLOCKED, JobState.ACTIVE, JobState.COMPLETED, JobState.FAILED,
    JobState.CANCELLED,
)  # fmt: skip

_ADDED = ord("7")
"""Begins the field that counts all jobs of a name that were ever added."""

_record = msgspec.json.Decoder(WorkerRecord)


def workers(now: int, told: Sequence[bytes]) -> list[WorkerRecord]:
    """Live workers from moments and records in turn."""
    return [
        msgspec.structs.replace(_record.decode(record), age=(now - int(at)) / 1e6)
        for at, record in zip(told[::2], told[1::2], strict=True)
        if record
    ]


def standing(queue: str, id: str, answer: Sequence[Any]) -> Standing | None:
    """Where a job stands from the answer of `standing.lua`."""
    if not answer:
        return None
    record, now, paused, higher, earlier, lease_until, shown, key, holders, parents = answer
    limits = queue_limits(queue, now, shown) if shown else None
    return Standing(
        Reader(queue).job(id, record),
        now,
        bool(paused),
        higher,
        earlier,
        int(float(lease_until)) if lease_until else None,
        limits,
        key_state(NO_LIMITS if limits is None else limits.limits, key) if key else None,
        tuple(map(long, holders)),
        tuple(read_parents(parents)),
    )


def counts(now: int, found: Sequence[Any], live: list[WorkerRecord]) -> list[QueueCounts]:
    """The figures of queues from the answer of `counts.lua`."""
    runnable = _runnable(live)
    return [_count(now, its, runnable) for its in found]


def _runnable(live: list[WorkerRecord]) -> dict[str, set[str | None]]:
    """Per queue the names that live workers can run; None among them: any."""
    names: dict[str, set[str | None]] = {}
    for worker in live:
        for want in worker.wants:
            names.setdefault(want.queue, set()).update([None] if want.names is None else want.names)
    return names


def _count(now: int, its: Sequence[Any], runnable: dict[str, set[str | None]]) -> QueueCounts:
    queue, paused, figures, arrivals = its[0].decode(), bool(its[1]), its[2], its[3]
    can_run = runnable.get(queue, set())
    totals = dict.fromkeys(_BY_NUMBER, 0)
    names: dict[str, dict[JobState, int]] = {}
    added = 0
    for field, figure in zip(figures[::2], figures[1::2], strict=True):
        if field[0] == _ADDED:
            added += int(figure)
            continue
        state, name = _BY_NUMBER[field[0] - 48], field[1:].decode()
        totals[state] += int(figure)
        names.setdefault(name, dict.fromkeys(_BY_NUMBER, 0))[state] = int(figure)
    held = sum(states[JobState.WAITING] for name, states in names.items() if not can_run & {name, None})
    age = None
    if totals[JobState.WAITING] and arrivals:
        age = max(0.0, (now - min(map(int, arrivals))) / 1e6)
    return QueueCounts(queue, paused, totals, [NameCount(*pair) for pair in sorted(names.items())], held, age, added)


def log_lines(kept: Sequence[bytes], first: int) -> list[LogLine]:
    """Lines of a log, of which the first has that number."""
    return [
        LogLine(number, int.from_bytes(line[:7], "big"), line[7:].decode()) for number, line in enumerate(kept, first)
    ]


# --- pages -----------------------------------------------------------------------------

_Line = tuple[int, int, int, int, str, str]
_Score = tuple[int, str]
_BEYOND = 2**53
_IDS = {6: 4, 2: 1}
"""Where the id is in either."""


def place_after(ended: Sequence[Any] | None) -> list[Any] | bool:
    """Where a page goes on, as `find.lua` takes it."""
    if not ended:
        return False
    its = list(ended)
    its[_IDS[len(its)]] = packable(its[_IDS[len(its)]])
    return its


def page_end(told: Sequence[Any]) -> list[Any]:
    """Where a page ended, from what `find.lua` told of it."""
    at = _IDS[len(told)]
    return [
        part if not isinstance(part, bytes) else long(part) if place == at and part else part.decode()
        for place, part in enumerate(told)
    ]


def write_cursor(state: int, ended: Sequence[Any]) -> str:
    """A cursor as text: the place among the asked states, and what `find.lua` said of the end of its page."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([state, list(ended)])).decode().rstrip("=")


def read_cursor(text: str, states: Sequence[JobState]) -> tuple[int, list[Any] | None]:
    """The place among the states and where to go on within; raises `OptionError` for what is no cursor."""
    try:
        parts = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place, ended = msgspec.msgpack.decode(parts, type=tuple[int, list[int | str]])
        if not 0 <= place < len(states):
            raise ValueError
        if not ended:
            return place, None
        shape: Any = _Line if states[place] is JobState.WAITING else _Score
        figures = msgspec.convert(ended, shape)
        if any(isinstance(figure, int) and abs(figure) >= _BEYOND for figure in figures):
            raise ValueError
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise OptionError(f"{text[:60]!r} is not a cursor; use the one that came with the page before") from None
    return place, list(figures)
