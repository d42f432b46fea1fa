"""The step that hands out jobs: which are next, fairly between queues and never for ever behind others.

It writes leases and tells of them; what a lease is worth later is decided in
`moves.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import merge
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple

import msgspec

from muskox.core.job import Job, JobState
from muskox.store.protocol import Want
from muskox.store.sqlite import keys, rows
from muskox.store.sqlite.limiting import Gate
from muskox.store.sqlite.moves import ranges, text
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = ["claim"]

AGED_TURN = 20
"""One claim in so many goes to the job that has waited longest …"""
AGED_AFTER = 10_000_000
"""… once it has waited so many microseconds. So priority never makes a job wait for ever."""

MOST_ROUNDS = 100
"""Rounds of a claim from queues with keys: of one key come some 16 jobs to the line at a time."""

_LINE = 14
"""Where in a row is the key of a job."""
_NO_CAPS: Mapping[int, int] = {}
_W, _A = NUMBER[JobState.WAITING], NUMBER[JobState.ACTIVE]


class _Lane(NamedTuple):
    id: int
    queue: int
    queue_name: str
    name: str
    waiting: int
    limited: int


_Row = tuple[Any, ...]
"""A job about to be claimed: a row of the statement `pick`, which begins with its lane."""

_Lanes = dict[int, _Lane]


class _Next(NamedTuple):
    """What a lane would give next, and the lowest priority that waits in it."""

    rows: list[_Row]
    lowest: int | None

    @property
    def deep(self) -> bool:
        """Whether the rows go down to the lowest priority, and the job that has waited longest is among them."""
        return not self.rows or self.rows[-1][3] == self.lowest


_read_rows = msgspec.json.Decoder(list[tuple[Any, ...]]).decode


class Claimed(NamedTuple):
    """What a claim moved. Made into jobs by whoever asked, in its own thread, since the line's time is dear."""

    lanes: _Lanes
    picks: list[_Row]
    token: int
    at: int
    worker: str
    keys: Mapping[int, str] = {}
    """The names of the keys of jobs, by their rows."""
    counted: Collection[int] = ()
    """The queues in which only so many jobs may run, so that others wait for the end of each."""
    moments: Mapping[str, int | None] = {}
    """By the names of queues with limits or keys, when more of them can be claimed just because time passes."""

    def jobs(self) -> list[Job]:
        """The jobs, as they are now."""
        keys, counted = self.keys, self.counted
        return [
            rows.claimed(
                row, self.lanes[row[0]].queue_name, self.lanes[row[0]].name, token, self.at, self.worker,
                keys[row[_LINE]] if keys and row[_LINE] is not None else None,
                tied=self.lanes[row[0]].queue in counted if counted else False,
            )
            for token, row in enumerate(self.picks, self.token)
        ]  # fmt: skip


def claim(tx: Tx, wants: Sequence[Want], limit: int, worker: str, lease: float) -> Claimed:
    """Move the next jobs to active, each with a fence of its own."""
    wanted = _joined(wants)
    lanes = _open_lanes(tx, wanted)
    if not lanes or limit < 1:
        return Claimed({}, [], 0, tx.now, worker)
    if any(lane.limited for lane in lanes.values()):
        return _claim_limited(tx, wanted, lanes, limit, worker, lease)
    picks = _pick(tx, lanes, limit)
    if not picks:
        return Claimed({}, [], 0, tx.now, worker)
    token = tx.take_tokens(len(picks))
    _start(tx, wanted, lanes, picks, token, worker, lease)
    return Claimed(lanes, picks, token, tx.now, worker)


def _start(
    tx: Tx, wanted: dict[str, Want], lanes: _Lanes, picks: list[_Row], token: int, worker: str, lease: float
) -> None:
    _lease(tx, [row[1] for row in picks], token, worker, lease)
    _allow_stalls(tx, wanted, lanes, picks)
    _tell(tx, lanes, picks)


def _claim_limited(tx: Tx, wanted: dict[str, Want], lanes: _Lanes, limit: int, worker: str, lease: float) -> Claimed:
    """`claim` where a queue has limits or keys: in rounds, since what is claimed lets others come to the line."""
    queues = {lane.queue: lane.queue_name for lane in lanes.values() if lane.limited}
    gate = Gate(tx, queues)
    with_lines = {lane.queue for lane in lanes.values() if lane.limited & keys.HAS_KEYS}
    picks: list[_Row] = []
    names: dict[int, str] = {}
    token = 0
    for _ in range(MOST_ROUNDS):
        looked = sum(keys.look(tx, queue) for queue in with_lines)
        waiting = {id: lane for id, lane in lanes.items() if lane.waiting + tx.delta(id, _W) > 0}
        found = _pick(tx, waiting, limit - len(picks), gate.caps)
        with_keys = [(row[1], row[_LINE], row[2], row[0], row[5]) for row in found if row[_LINE] is not None]
        if with_keys:
            back, its = keys.admit(tx, with_keys)
            names |= its
            found = [row for row in found if row[1] not in back] if back else found
        if found:
            first = tx.take_tokens(len(found))
            token = token or first
            for queue, count in Counter([lanes[row[0]].queue for row in found]).items():
                gate.take(queue, count)
            _start(tx, wanted, lanes, found, first, worker, lease)
            picks.extend(found)
        if len(picks) >= limit or not (with_keys or looked):
            break
    else:
        tx.woken.update(queues.values())
    moments = {} if len(picks) >= limit else {name: gate.next_moment(queue) for queue, name in queues.items()}
    return Claimed(lanes, picks, token, tx.now, worker, names, gate.counted, moments)


def _lease(tx: Tx, seqs: list[int], token: int, worker: str, lease: float) -> None:
    values = {"token": token, "until": tx.now + int(lease * 1_000_000), "worker": worker, "now": tx.now}
    found = ranges(seqs, range(token, token + len(seqs)))
    if found is None:
        tx.execute("claim", {**values, "seqs": text(seqs)})
        return
    for one in found:
        tx.execute("claim_range", values | one._asdict())


def _joined(wants: Sequence[Want]) -> dict[str, Want]:
    """What is wanted by queue, all that is said of a queue taken together."""
    wanted: dict[str, Want] = {}
    for want in wants:
        known = wanted.get(want.queue, Want(want.queue, frozenset()))
        names = None if known.names is None or want.names is None else known.names | want.names
        wanted[want.queue] = Want(want.queue, names, known.max_stalls | want.max_stalls)
    return wanted


def _open_lanes(tx: Tx, wanted: dict[str, Want]) -> _Lanes:
    lanes = map(_Lane._make, tx.all("open_lanes", {"queues": text(list(wanted))}))
    return {lane.id: lane for lane in lanes if (names := wanted[lane.queue_name].names) is None or lane.name in names}


def _allow_stalls(tx: Tx, wanted: dict[str, Want], lanes: _Lanes, picks: list[_Row]) -> None:
    """Write down what processors say of stalls, where they do, for jobs that do not say for themselves."""
    for lane in lanes.values():
        said = wanted[lane.queue_name].max_stalls
        allowed = said.get(lane.name, said.get("")) if said else None
        if allowed is not None:
            seqs = text([row[1] for row in picks if row[0] == lane.id])
            tx.execute("allow_stalls", {"seqs": seqs, "max_stalls": allowed})


def _pick(tx: Tx, lanes: _Lanes, limit: int, caps: Mapping[int, int] = _NO_CAPS) -> list[_Row]:
    if caps:
        lanes = {id: lane for id, lane in lanes.items() if caps.get(lane.queue, 1) > 0}
    if not lanes:
        return []
    found = [_next_of(tx, lane, limit) for lane in lanes]
    picks = found[0].rows if len(found) == 1 else list(islice(_in_turn(tx, lanes, found, caps), limit))
    aged = (tx.turn + limit) // AGED_TURN
    old = _oldest(tx, lanes, aged) if aged and not (len(found) == 1 and found[0].deep) else []
    if old:
        taken = {row[1] for row in old}
        picks = [*old, *(row for row in picks if row[1] not in taken)][:limit]
    if caps:
        picks = list(_within(lanes, picks, caps))
    tx.turn = (tx.turn + len(picks)) % AGED_TURN
    return picks


def _within(lanes: _Lanes, picks: list[_Row], caps: Mapping[int, int]) -> Iterable[_Row]:
    """As many of each queue as it may have, the first ones."""
    left = dict(caps)
    for row in picks:
        queue = lanes[row[0]].queue
        if queue in left:
            if left[queue] <= 0:
                continue
            left[queue] -= 1
        yield row


def _next_of(tx: Tx, lane: int, limit: int) -> _Next:
    rows, lowest = tx.one("pick", {"lane": lane, "limit": limit}) or ("[]", None)
    return _Next(_read_rows(rows), lowest)


def _in_turn(tx: Tx, lanes: _Lanes, found: list[_Next], caps: Mapping[int, int]) -> Iterable[_Row]:
    """The first of each queue, then the second of each …; within a queue by place, whatever the lane."""
    queues: dict[int, list[list[_Row]]] = {}
    for lane, its in zip(lanes.values(), found, strict=True):
        queues.setdefault(lane.queue, []).append(its.rows)
    lines: list[Iterable[_Row]] = [
        islice(merge(*picks, key=_place), caps.get(queue)) for queue, picks in queues.items()
    ]
    # Another queue begins each time, so that claims of single jobs take turns too.
    first = tx.token % len(lines)
    lines = lines[first:] + lines[:first]
    return (row for row in chain.from_iterable(zip_longest(*lines)) if row is not None)


def _place(row: _Row) -> tuple[int, int, int]:
    _, seq, _, priority, arrival, *_ = row
    return -priority, arrival, seq


def _oldest(tx: Tx, lanes: Iterable[int], limit: int) -> list[_Row]:
    values = {"before": tx.now - AGED_AFTER, "limit": limit}
    found = [row for lane in lanes for row in tx.all("pick_oldest", {"lane": lane, **values})]
    return sorted(found, key=lambda row: (row[4], row[1]))[:limit]


def _tell(tx: Tx, lanes: _Lanes, picks: list[_Row]) -> None:
    """Count the jobs by lanes, and tell of them queue by queue in the order in which they were claimed."""
    claimed = Counter([row[0] for row in picks])
    for lane, count in claimed.items():
        tx.count(lane, _W, _A, count)
    for queue in {lanes[lane].queue: None for lane in claimed}:
        facts = [(row[2], lanes[row[0]].name, row[5] + 1) for row in picks if lanes[row[0]].queue == queue]
        tx.tell(queue, "active", facts)
        # Only where one of its lanes runs empty need the others be asked.
        emptied = any(lanes[lane].waiting + tx.delta(lane, _W) <= 0 for lane in claimed if lanes[lane].queue == queue)
        if emptied and tx.waiting_in(queue) == 0:
            tx.tell(queue, "drained", [()])
