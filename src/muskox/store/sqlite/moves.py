"""The steps of runs: get, renew, annotate; and what other steps share.

Each runs inside one transaction and is handed its `Tx`. Adding, claiming and settling
have modules of their own, and so have moves by hand and by upkeep.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from muskox.core.job import Job, JobState, Lease
from muskox.store.protocol import Note
from muskox.store.sqlite import rows
from muskox.store.sqlite.tx import NUMBER, Lane, Tx

__all__ = [
    "Range",
    "annotate",
    "fence",
    "find_lane",
    "get",
    "get_held",
    "ranges",
    "remove",
    "renew",
    "still_held",
    "text",
]

_W, _D, _A = NUMBER[JobState.WAITING], NUMBER[JobState.DELAYED], NUMBER[JobState.ACTIVE]
_C, _F = NUMBER[JobState.COMPLETED], NUMBER[JobState.FAILED]
_MOST_RANGES = 5
_MOST_LINES = 1000
_MOST_LINE = 4000

_encode = msgspec.json.Encoder().encode


def text(value: Any) -> str:
    """A list of rows as the one JSON text in which it travels to a statement."""
    return _encode(value).decode()


class Range(NamedTuple):
    """Jobs whose numbers follow one another, and so do their tokens, which begin at `token`."""

    first: int
    last: int
    token: int


def ranges(seqs: Sequence[int], tokens: Sequence[int]) -> list[Range] | None:
    """The ranges of which the jobs are made up; None when they are too many to be worth it.

    A range is written in half the time that it takes to name each of its jobs, and jobs that were added one after
    another are claimed, and often end, in that order.
    """
    breaks = [at for at in range(1, len(seqs)) if seqs[at] - seqs[at - 1] != 1 or tokens[at] - tokens[at - 1] != 1]
    if len(breaks) >= _MOST_RANGES:
        return None
    return [
        Range(seqs[first], seqs[after - 1], tokens[first])
        for first, after in zip([0, *breaks], [*breaks, len(seqs)], strict=True)
    ]


def find_lane(tx: Tx, queue: str, name: str) -> Lane:
    """Give the numbers of a queue and of its lane for a name, made now if there are none."""
    key = queue, name
    lane = tx.known.get(key) or tx.met.get(key)
    if lane is None:
        values = {"queue": queue, "name": name}
        found = tx.one("find_lane", values)
        if found is None:
            tx.execute("add_queue", values)
            tx.execute("add_lane", values)
            found = tx.one("find_lane", values)
        assert found is not None
        lane = tx.met[key] = found[0], found[1]
    return lane


def get(tx: Tx, queue: str, ids: Sequence[str]) -> list[Job | None]:
    """Read jobs in the order of their ids."""
    cursor = tx.execute("get", {"queue": queue, "ids": text(ids)})
    cursor.row_factory = sqlite3.Row
    found = {row["id"]: rows.full(row) for row in cursor}
    return [found.get(id) for id in ids]


# --- leases ----------------------------------------------------------------------------


def still_held(tx: Tx, leases: Sequence[Lease]) -> set[tuple[Any, ...]]:
    """The fences, row and token, of those leases that still count.

    The row alone would not do: a worker may hold an old and a new lease of the same job.
    """
    return set(tx.all("still_held", {"leases": text([fence(lease) for lease in leases])}))


def fence(lease: Lease) -> tuple[int, int]:
    return lease.row, lease.token


def get_held(tx: Tx, leases: Sequence[Lease]) -> list[Job]:
    """Read the jobs of those leases that still count, in their order."""
    held = still_held(tx, leases)
    kept = [lease for lease in leases if fence(lease) in held]
    jobs = {
        queue: get(tx, queue, [lease.job_id for lease in kept if lease.queue == queue])
        for queue in {lease.queue for lease in kept}
    }
    by_row = {
        job.lease.row: job for found in jobs.values() for job in found if job is not None and job.lease is not None
    }
    return [by_row[lease.row] for lease in kept]


def remove(tx: Tx, seqs: Sequence[int]) -> None:
    """Delete jobs with their logs."""
    tx.execute("remove", {"seqs": text(seqs)})
    tx.execute("remove_lines", {"seqs": text(seqs)})
    [latest] = tx.one("latest") or [None]
    tx.told_to = min(tx.told_to, latest or 0)


# --- renew, annotate -------------------------------------------------------------------


def renew(tx: Tx, leases: Sequence[Lease], seconds: float) -> list[Lease]:
    """Prolong leases; give back the lost ones."""
    held = still_held(tx, leases)
    tx.execute("renew", {"until": tx.now + int(seconds * 1_000_000), "seqs": text([row for row, _ in held])})
    return [lease for lease in leases if fence(lease) not in held]


def annotate(tx: Tx, notes: Sequence[Note]) -> list[Lease]:
    """Write what runs tell of their jobs; give back the lost leases."""
    held = still_held(tx, [note.lease for note in notes])
    lost = []
    for note in notes:
        if fence(note.lease) in held:
            _annotate_one(tx, note)
        else:
            lost.append(note.lease)
    return lost


def _annotate_one(tx: Tx, note: Note) -> None:
    lease = note.lease
    queue, _ = find_lane(tx, lease.queue, lease.name)
    fact = (lease.job_id, lease.name, lease.attempt)
    if note.progress is not None or note.data is not None or note.steps is not None:
        values = {"seq": lease.row, "progress": note.progress, "data": note.data, "steps": note.steps}
        tx.execute("note", values)
    if note.progress is not None:
        tx.tell(queue, "progress", [(*fact, msgspec.Raw(note.progress.encode()))])
    if note.data is not None:
        tx.tell(queue, "updated", [fact])
    if note.lines:
        _add_lines(tx, lease.row, note.lines)


def _add_lines(tx: Tx, seq: int, lines: Sequence[str]) -> None:
    found = tx.one("last_line", {"seq": seq})
    last = found[0] if found else 0
    for number, line in enumerate(lines, last + 1):
        if number > _MOST_LINES + 1:
            return
        full = number == _MOST_LINES + 1
        said = f"(more than {_MOST_LINES} lines: the rest was dropped)" if full else line[:_MOST_LINE]
        tx.execute("add_line", {"seq": seq, "number": number, "now": tx.now, "text": said})
