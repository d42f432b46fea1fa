"""Finds jobs: by id, or page by page through the states, along the indexes.

A page costs its length, not the table's. It changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from muskox.core.errors import OptionError
from muskox.core.job import Job, JobState
from muskox.store.protocol import Found, Selection
from muskox.store.sqlite import rows
from muskox.store.sqlite.moves import text
from muskox.store.sqlite.tx import NUMBER, STATE, Tx

__all__ = ["Row", "find", "lane_of", "matching", "read"]

Row = tuple[Any, ...]
"""seq, id, lane, state, attempt, and for pages the two figures that say where the row stands."""

_PAGES = {JobState.WAITING: "page_waiting", JobState.DELAYED: "page_delayed", JobState.ACTIVE: "page_active"}


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: which part of the walk, and the last row's place in it."""

    part: int = 0
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
    for part, row in _walk(tx, selection, cursor or _Cursor()):
        page.append(row)
        cursor = _Cursor(part, row[5], row[6], row[0], False)
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


def lane_of(tx: Tx, lane: int) -> tuple[int, str, str]:
    """The number and name of a lane's queue, and the job name that it is for."""
    found = tx.one("lane", {"lane": lane})
    assert found is not None, "lanes are never deleted"
    return found[0], found[1], found[2]


def _walk(tx: Tx, selection: Selection, start: _Cursor) -> Iterator[tuple[int, Row]]:
    """Every matching row with the part of the walk that it is in: state by state, waiting ones lane by lane."""
    found = tx.one("find_queue", {"queue": selection.queue})
    if found is None:
        return
    names = tx.all("lane_names", {"queue": found[0]})
    lanes = [lane for lane, name in names if not selection.names or name in selection.names]
    parts: list[tuple[JobState, list[int]]] = []
    for state in selection.states or tuple(JobState):
        parts += [(state, [lane]) for lane in lanes] if state is JobState.WAITING else [(state, lanes)]
    for part, (state, its) in enumerate(parts):
        if part >= start.part:
            cursor = start if part == start.part else _Cursor(part)
            for row in _rows(tx, found[0], state, its, cursor, selection.limit):
                yield part, row


def _rows(tx: Tx, queue: int, state: JobState, lanes: list[int], start: _Cursor, limit: int) -> list[Row]:
    if state is JobState.BLOCKED:
        return []
    values = {"queue": queue, "state": NUMBER[state], "lanes": text(lanes), "lane": lanes[0] if lanes else 0,
              "first": start.first, "priority": start.priority, "arrival": start.arrival, "seq": start.seq,
              "limit": limit}  # fmt: skip
    return tx.all(_PAGES.get(state, "page_ended"), values)


def _cursor_text(cursor: _Cursor) -> str:
    return ".".join(str(int(figure)) for figure in msgspec.structs.astuple(cursor)[:4])


def _read_cursor(cursor: str) -> _Cursor:
    try:
        part, priority, arrival, seq = map(int, cursor.split("."))
    except ValueError:
        raise OptionError(f"{cursor[:60]!r} is not a cursor; use the one that came with the page before") from None
    return _Cursor(part, priority, arrival, seq, False)
