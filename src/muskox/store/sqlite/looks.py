"""The steps that only look: logs, figures, events, workers, and the audit of it all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from muskox.core.events import Event, Record, Trimmed, unfold
from muskox.core.job import JobState
from muskox.store.protocol import Finding, LogLine, NameCount, QueueCounts, WorkerRecord
from muskox.store.sqlite.tx import STATE, Tx

__all__ = ["audit", "counts", "events", "logs", "workers"]

ALIVE = 30_000_000
"""A worker whose last beat is older than so many microseconds is not counted as live."""

_record = msgspec.json.Decoder(WorkerRecord)


def logs(tx: Tx, queue: str, id: str, after: int, limit: int) -> list[LogLine]:
    """Read the log of a job."""
    return [LogLine(*row) for row in tx.all("logs", {"queue": queue, "id": id, "after": after, "limit": limit})]


def workers(tx: Tx) -> list[WorkerRecord]:
    """The workers that beat lately."""
    found = tx.all("workers", {"since": tx.now - ALIVE})
    return [msgspec.structs.replace(_record.decode(record), age=(tx.now - at) / 1e6) for at, record in found]


def counts(tx: Tx, queues: Sequence[str]) -> list[QueueCounts]:
    """The figures of queues, in the order asked for, or of all in the order of their making."""
    runnable = _runnable(workers(tx))
    untold = {lane: (waiting, delayed) for lane, waiting, delayed in tx.all("untold_counts")}
    found: dict[str, list[tuple[Any, ...]]] = {}
    for queue, paused, name, lane, waiting, delayed, *others in tx.all("counts"):
        more = untold.get(lane, (0, 0))
        figures = [0] if lane is None else [waiting + more[0], delayed + more[1], *others]
        if any(more):
            figures[-1] += sum(more)
        found.setdefault(queue, []).append((queue, paused, name, lane, *figures))
    return [_count(tx, name, found.get(name, []), runnable.get(name, set())) for name in queues or found]


def _runnable(live: list[WorkerRecord]) -> dict[str, set[str | None]]:
    """Per queue the names that live workers can run; None among them: any."""
    names: dict[str, set[str | None]] = {}
    for worker in live:
        for want in worker.wants:
            names.setdefault(want.queue, set()).update([None] if want.names is None else want.names)
    return names


def _count(tx: Tx, queue: str, lanes: list[tuple[Any, ...]], runnable: set[str | None]) -> QueueCounts:
    totals = dict.fromkeys(STATE, 0)
    names, held, oldest, ever = [], 0, None, 0
    for _, _, name, lane, *figures, added in lanes:
        if name is None:
            continue
        ever += added
        states = dict(zip(STATE, figures, strict=True))
        names.append(NameCount(name, states))
        for state, figure in states.items():
            totals[state] += figure
        if waiting := states[JobState.WAITING]:
            held += 0 if runnable & {name, None} else waiting
            [arrival] = tx.one("oldest_arrival", {"lane": lane}) or [None]
            oldest = arrival if oldest is None or (arrival is not None and arrival < oldest) else oldest
    age = None if oldest is None else max(0.0, (tx.now - oldest) / 1e6)
    return QueueCounts(queue, bool(lanes and lanes[0][1]), totals, names, held, age, ever)


def events(tx: Tx, after: int, queue: str | None, limit: int) -> tuple[list[Event], bool]:
    """Read facts after an offset; and whether there are jobs of which is still to be told."""
    first, following, behind = tx.one("first_event") or (None, 1, False)
    if after < 0 or after >= following:
        return [Trimmed(queue or "", following - 1, tx.now)], bool(behind)
    found: list[Event] = []
    for row in tx.all("read_events", {"after": after, "queue": queue, "limit": limit}):
        found += unfold(Record(*row), after=after)
        if len(found) >= limit:
            break
    lowest = following if first is None else first
    if after + 1 < lowest:
        found.insert(0, Trimmed(queue or "", lowest - 1, tx.now))
    return found[:limit], bool(behind)


def audit(tx: Tx) -> list[Finding]:
    """Compare what is kept up with what is there."""
    found = [Finding(f"the database is damaged: {said}") for (said,) in tx.all("integrity") if said != "ok"]
    for queue, name, *figures in tx.all("audit_counts"):
        for state, kept, real in zip(STATE, figures[:7], figures[7:], strict=True):
            if kept != (real or 0):
                found.append(Finding(f"{kept} jobs named {name!r} are said to be {state}, {real or 0} are", queue))
    found += [Finding("active without a lease", *row) for row in tx.all("audit_active")]
    found += [
        Finding(f"{STATE[state]} with a moment that does not fit", queue, id)
        for queue, id, state in tx.all("audit_shape")
    ]
    found += [Finding("in a lane that is not its own", "", id) for (id,) in tx.all("audit_lanes")]
    found += [Finding(f"log lines of job row {row}, which is not there") for (row,) in tx.all("audit_lines")]
    return found
