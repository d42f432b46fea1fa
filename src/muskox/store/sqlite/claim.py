"""The step that hands out jobs: which are next, fairly between queues and never for ever behind others.

It writes leases and tells of them; what a lease is worth later is decided in
`moves.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple

from muskox.core.job import Job, JobState
from muskox.store.protocol import Want
from muskox.store.sqlite import rows
from muskox.store.sqlite.moves import text
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = ["claim"]

AGED_TURN = 20
"""One claim in so many goes to the job that has waited longest …"""
AGED_AFTER = 10_000_000
"""… once it has waited so many microseconds. So priority never makes a job wait for ever."""

_W, _A = NUMBER[JobState.WAITING], NUMBER[JobState.ACTIVE]


class _Lane(NamedTuple):
    id: int
    queue: int
    queue_name: str
    name: str
    waiting: int


_Row = tuple[Any, ...]
_Pick = tuple[_Lane, _Row]
"""A job about to be claimed: its lane, and its row of the statement `pick`."""


class Claimed(NamedTuple):
    """What a claim moved. Made into jobs by whoever asked, in its own thread, since the line's time is dear."""

    picks: list[_Pick]
    token: int
    at: int
    worker: str

    def jobs(self) -> list[Job]:
        """The jobs, as they are now."""
        return [
            rows.claimed(row, lane.queue_name, lane.name, token, self.at, self.worker)
            for token, (lane, row) in enumerate(self.picks, self.token)
        ]


def claim(tx: Tx, wants: Sequence[Want], limit: int, worker: str, lease: float) -> Claimed:
    """Move the next jobs to active, each with a fence of its own."""
    lanes = _open_lanes(tx, wants)
    if not lanes or limit < 1:
        return Claimed([], 0, tx.now, worker)
    picks = _pick(tx, lanes, limit)
    token = tx.take_tokens(len(picks))
    until = tx.now + int(lease * 1_000_000)
    seqs = text([row[0] for _, row in picks])
    tx.execute("claim", {"seqs": seqs, "token": token, "until": until, "worker": worker, "now": tx.now})
    _tell(tx, picks)
    return Claimed(picks, token, tx.now, worker)


def _open_lanes(tx: Tx, wants: Sequence[Want]) -> list[_Lane]:
    wanted = {want.queue: want.names for want in wants}
    lanes = map(_Lane._make, tx.all("open_lanes", {"queues": text(list(wanted))}))
    return [lane for lane in lanes if (names := wanted[lane.queue_name]) is None or lane.name in names]


def _pick(tx: Tx, lanes: list[_Lane], limit: int) -> list[_Pick]:
    picks = _next_of(tx, lanes[0], limit) if len(lanes) == 1 else list(islice(_in_turn(tx, lanes, limit), limit))
    aged = (tx.turn + limit) // AGED_TURN
    old = _oldest(tx, lanes, aged) if aged else []
    if old:
        taken = {row[0] for _, row in old}
        picks = [*old, *(pick for pick in picks if pick[1][0] not in taken)][:limit]
    tx.turn = (tx.turn + len(picks)) % AGED_TURN
    return picks


def _next_of(tx: Tx, lane: _Lane, limit: int) -> list[_Pick]:
    return [(lane, row) for row in tx.all("pick", {"lane": lane.id, "limit": limit})]


def _in_turn(tx: Tx, lanes: list[_Lane], limit: int) -> Iterable[_Pick]:
    """The first of each queue, then the second of each …; within a queue by place, whatever the lane."""
    queues: dict[int, list[list[_Pick]]] = {}
    for lane in lanes:
        queues.setdefault(lane.queue, []).append(_next_of(tx, lane, limit))
    lines = [merge(*picks, key=_place) for picks in queues.values()]
    # Another queue begins each time, so that claims of single jobs take turns too.
    first = tx.token % len(lines)
    lines = lines[first:] + lines[:first]
    return (pick for pick in chain.from_iterable(zip_longest(*lines)) if pick is not None)


def _place(pick: _Pick) -> tuple[int, int, int]:
    seq, _, priority, arrival, *_ = pick[1]
    return -priority, arrival, seq


def _oldest(tx: Tx, lanes: list[_Lane], limit: int) -> list[_Pick]:
    values = {"before": tx.now - AGED_AFTER, "limit": limit}
    found = [(lane, row) for lane in lanes for row in tx.all("pick_oldest", {"lane": lane.id, **values})]
    return sorted(found, key=lambda pick: (pick[1][3], pick[1][0]))[:limit]


def _tell(tx: Tx, picks: list[_Pick]) -> None:
    """Count the jobs by lanes, and tell of them queue by queue in the order in which they were claimed."""
    claimed = Counter([lane for lane, _ in picks])
    for lane, count in claimed.items():
        tx.count(lane.id, _W, _A, count)
    for queue in {lane.queue: None for lane in claimed}:
        tx.tell(queue, "active", [(row[1], lane.name, row[4] + 1) for lane, row in picks if lane.queue == queue])
        if tx.waiting_in(queue) == 0:
            tx.tell(queue, "drained", [()])
