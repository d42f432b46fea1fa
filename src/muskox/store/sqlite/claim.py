"""The step that hands out jobs: which are next, fairly between queues and never for ever behind others.

It writes leases and tells of them; what a lease is worth later is decided in
`moves.py`.
"""

from __future__ import annotations

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


class _Pick(NamedTuple):
    """A job about to be claimed; compares by its place in the queue."""

    place: tuple[int, int, int]
    lane: _Lane
    row: tuple[Any, ...]


def claim(tx: Tx, wants: Sequence[Want], limit: int, worker: str, lease: float) -> list[Job]:
    """Move the next jobs to active, each with a fence of its own."""
    lanes = _open_lanes(tx, wants)
    if not lanes or limit < 1:
        return []
    picks = _pick(tx, lanes, limit)
    first = tx.take_tokens(len(picks))
    until = tx.now + int(lease * 1_000_000)
    seqs = text([pick.row[0] for pick in picks])
    tx.execute("claim", {"seqs": seqs, "token": first, "until": until, "worker": worker, "now": tx.now})
    jobs = [
        rows.claimed(pick.row, pick.lane.queue_name, pick.lane.name, first + index, tx.now, worker)
        for index, pick in enumerate(picks)
    ]
    _tell(tx, picks, jobs)
    return jobs


def _open_lanes(tx: Tx, wants: Sequence[Want]) -> list[_Lane]:
    wanted = {want.queue: want.names for want in wants}
    lanes = map(_Lane._make, tx.all("open_lanes", {"queues": text(list(wanted))}))
    return [lane for lane in lanes if (names := wanted[lane.queue_name]) is None or lane.name in names]


def _pick(tx: Tx, lanes: list[_Lane], limit: int) -> list[_Pick]:
    aged = (tx.turn % AGED_TURN + limit) // AGED_TURN
    old = _oldest(tx, lanes, aged) if aged else []
    if len(lanes) == 1:
        ranked = _next_of(tx, lanes[0], limit)
    else:
        ranked = list(islice(_in_turn(tx, lanes, limit), limit))
    if old:
        taken = {pick.row[0] for pick in old}
        ranked = [*old, *(pick for pick in ranked if pick.row[0] not in taken)][:limit]
    tx.turn += len(ranked)
    return ranked


def _next_of(tx: Tx, lane: _Lane, limit: int) -> list[_Pick]:
    found = tx.all("pick", {"lane": lane.id, "limit": limit})
    return [_Pick((-row[2], row[3], row[0]), lane, row) for row in found]


def _in_turn(tx: Tx, lanes: list[_Lane], limit: int) -> Iterable[_Pick]:
    """The first of each queue, then the second of each …; within a queue by place, whatever the lane.

    Which queue is the first moves on with every job, so that claims of one job are fair too.
    """
    queues: dict[int, list[list[_Pick]]] = {}
    for lane in lanes:
        queues.setdefault(lane.queue, []).append(_next_of(tx, lane, limit))
    start = tx.turn % len(queues)
    order = sorted(queues)
    lines = [merge(*queues[queue]) for queue in order[start:] + order[:start]]
    return (pick for pick in chain.from_iterable(zip_longest(*lines)) if pick is not None)


def _oldest(tx: Tx, lanes: list[_Lane], limit: int) -> list[_Pick]:
    before = tx.now - AGED_AFTER
    found = [
        _Pick((0, row[3], row[0]), lane, row)
        for lane in lanes
        for row in tx.all("pick_oldest", {"lane": lane.id, "before": before, "limit": limit})
    ]
    return sorted(found)[:limit]


def _tell(tx: Tx, picks: list[_Pick], jobs: list[Job]) -> None:
    by_lane: dict[_Lane, int] = {}
    by_queue: dict[int, list[tuple[str, str, int]]] = {}
    for pick, job in zip(picks, jobs, strict=True):
        by_lane[pick.lane] = by_lane.get(pick.lane, 0) + 1
        by_queue.setdefault(pick.lane.queue, []).append((job.id, job.name, job.attempt))
    for lane, count in by_lane.items():
        tx.count(lane.id, _W, _A, count)
    for queue, facts in by_queue.items():
        tx.tell(queue, "active", facts)
        if tx.waiting_in(queue) == 0:
            tx.tell(queue, "drained", [()])
