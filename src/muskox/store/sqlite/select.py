"""Finds jobs: by id, or page by page through the states, along the indexes.

A page costs its length, not the table's. It changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from muskox.core.errors import OptionError
from muskox.core.flows import OnFailure, Parent
from muskox.core.job import Job, JobState
from muskox.store.protocol import Found, Selection, Standing
from muskox.store.sqlite import rows
from muskox.store.sqlite.moves import text
from muskox.store.sqlite.tx import NUMBER, STATE, Tx

__all__ = ["Row", "find", "lane_of", "matching", "parents", "read", "standing"]

Row = tuple[Any, ...]
"""seq, id, lane, state, attempt, and for pages the two figures that say where the row stands."""

_Part = tuple[int, int]
_BEYOND = 2**63

_PAGES = {
    JobState.WAITING: "page_waiting",
    JobState.DELAYED: "page_delayed",
    JobState.BLOCKED: "page_blocked",
    JobState.ACTIVE: "page_active",
}


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: which part of the walk, and the last row's place in it.

    A part is a place among the asked states and, for waiting jobs, a lane. By the lane's number and not by its
    place among the lanes, since new ones may be made between two pages.
    """

    state: int = 0
    lane: int = 0
    priority: int = 0
    arrival: int = 0
    seq: int = 0
    first: bool = True


def find(tx: Tx, selection: Selection, after: str | None) -> Found:
    """Give a page of jobs and the cursor of the next."""
    if selection.ids is not None:
        found = [job for _, job in read(tx, [row[0] for row in matching(tx, selection)])]
        return Found(found, None)
    page: list[Row] = []
    cursor: _Cursor | None = _Cursor() if after is None else _read_cursor(after)
    for (state, lane), row in _walk(tx, selection, cursor or _Cursor()):
        page.append(row)
        cursor = _Cursor(state, lane, row[5], row[6], row[0], False)
        if len(page) == selection.limit:
            break
    else:
        cursor = None
    jobs = dict(read(tx, [row[0] for row in page]))
    return Found([jobs[row[0]] for row in page], None if cursor is None else _cursor_text(cursor))


def matching(tx: Tx, selection: Selection) -> list[Row]:
    """The rows of a selection, at most as many as its limit."""
    queue = tx.one("find_queue", {"queue": selection.queue})
    if queue is None:
        return []
    if selection.ids is None:
        return [
            row
            for _, row in zip(range(selection.limit), (row for _, row in _walk(tx, selection, _Cursor())), strict=False)
        ]
    found: list[Row] = tx.all("by_id", {"queue": queue[0], "ids": text(list(dict.fromkeys(selection.ids)))})
    names = dict(tx.all("lane_names", {"queue": queue[0]}))
    return [
        row
        for row in found
        if (not selection.states or STATE[row[3]] in selection.states)
        and (not selection.names or names[row[2]] in selection.names)
    ]


def read(tx: Tx, seqs: Sequence[int]) -> list[tuple[int, Job]]:
    """Read whole jobs by their rows, in the order given."""
    cursor = tx.execute("by_seq", {"seqs": text(seqs)})
    cursor.row_factory = sqlite3.Row
    found = {row["seq"]: rows.full(row) for row in cursor}
    return [(seq, found[seq]) for seq in seqs if seq in found]


def standing(tx: Tx, queue: str, id: str, names: Collection[str] | None, most: int) -> Standing | None:
    """Tell where a job stands in its queue."""
    found = tx.one("stand", {"queue": queue, "id": id})
    if found is None:
        return None
    seq, number, paused, lease_until, priority, arrival = found
    [(_, job)] = read(tx, [seq])
    if job.state is not JobState.WAITING:
        its = tuple(parents(tx, queue, id, unended=True, limit=10)) if job.state is JobState.BLOCKED else ()
        return Standing(job, tx.now, bool(paused), lease_until_us=lease_until, parents=its)
    lanes = [lane for lane, name in tx.all("lane_names", {"queue": number}) if names is None or name in names]
    values = {"lanes": text(lanes), "priority": priority, "arrival": arrival, "seq": seq, "most": most}
    [higher] = tx.one("count_higher", values) or [0]
    [earlier] = tx.one("count_earlier", values) or [0]
    return Standing(job, tx.now, bool(paused), higher, earlier)


def parents(tx: Tx, queue: str, id: str, *, unended: bool = False, limit: int = -1) -> list[Parent]:
    """The parents of a job; with `unended` only those for which it still waits."""
    values = {"queue": queue, "id": id, "unended": unended, "limit": limit}
    return [
        Parent(
            name, of, parent, OnFailure(on_failure), STATE[state], result,
            None if failure is None else rows.read_failure(failure),
        )
        for name, of, parent, on_failure, state, result, failure in tx.all("parents", values)
    ]  # fmt: skip


def lane_of(tx: Tx, lane: int) -> tuple[int, str, str]:
    """The number and name of a lane's queue, and the job name that it is for."""
    found = tx.one("lane", {"lane": lane})
    assert found is not None, "lanes are never deleted"
    return found[0], found[1], found[2]


def _walk(tx: Tx, selection: Selection, start: _Cursor) -> Iterator[tuple[_Part, Row]]:
    """Every matching row with the part of the walk that it is in: state by state, waiting ones lane by lane."""
    found = tx.one("find_queue", {"queue": selection.queue})
    if found is None:
        return
    names = sorted(tx.all("lane_names", {"queue": found[0]}))
    lanes = [lane for lane, name in names if not selection.names or name in selection.names]
    reached = start.state, start.lane
    for number, state in enumerate(selection.states or tuple(JobState)):
        by_lane = [(lane, [lane]) for lane in lanes] if state is JobState.WAITING else [(0, lanes)]
        for lane, its in by_lane:
            part = number, lane
            if part >= reached:
                cursor = start if part == reached else _Cursor()
                for row in _rows(tx, found[0], state, its, cursor, selection.limit):
                    yield part, row


def _rows(tx: Tx, queue: int, state: JobState, lanes: list[int], start: _Cursor, limit: int) -> list[Row]:
    values = {"queue": queue, "state": NUMBER[state], "lanes": text(lanes), "lane": lanes[0] if lanes else 0,
              "first": start.first, "priority": start.priority, "arrival": start.arrival, "seq": start.seq,
              "limit": limit}  # fmt: skip
    return tx.all(_PAGES.get(state, "page_ended"), values)


def _cursor_text(cursor: _Cursor) -> str:
    return ".".join(str(int(figure)) for figure in msgspec.structs.astuple(cursor)[:5])


def _read_cursor(cursor: str) -> _Cursor:
    try:
        state, lane, priority, arrival, seq = figures = [int(figure) for figure in cursor.split(".")]
        if max(map(abs, figures)) >= _BEYOND:
            raise ValueError
    except ValueError:
        raise OptionError(f"{cursor[:60]!r} is not a cursor; use the one that came with the page before") from None
    return _Cursor(state, lane, priority, arrival, seq, False)
