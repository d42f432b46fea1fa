"""What the end of a job means to its flow: figures, children, and the jobs that follow.

Whoever ends jobs calls this in the same transaction; what a flow is made of is in `flows.py`. Jobs in no flow are
left out at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from muskox.core.flows import FLOW_KEPT, OnFailure, parent_failure
from muskox.core.job import JobState, NewJob
from muskox.store.sqlite import dedup, keys, rows
from muskox.store.sqlite.moves import text
from muskox.store.sqlite.select import lane_of
from muskox.store.sqlite.tx import NUMBER, STATE, Tx

__all__ = ["Member", "arrive", "ended", "fall", "follow", "note", "note_removed", "resolve", "revive"]

_W, _D, _B = NUMBER[JobState.WAITING], NUMBER[JobState.DELAYED], NUMBER[JobState.BLOCKED]
_C, _F, _X = NUMBER[JobState.COMPLETED], NUMBER[JobState.FAILED], NUMBER[JobState.CANCELLED]

_read_new = msgspec.json.Decoder(NewJob).decode


class Member(NamedTuple):
    """A job of a flow that has ended, or had: its row, its node where it has one, and how it ended."""

    seq: int
    flow: int
    node: int | None
    state: int


def ended(tx: Tx, seqs: Sequence[int]) -> None:
    """Jobs have ended, and are still there: tell their flows and those that wait for them."""
    resolve(tx, note(tx, seqs))


def note(tx: Tx, seqs: Sequence[int]) -> list[Member]:
    """Write down how jobs have ended; gives those that are in a flow, for `resolve`. They may be deleted between."""
    members = [Member._make(row) for row in tx.all("members", {"seqs": text(seqs), "ended": True})]
    _count(tx, members)
    if _nodes(members):
        tx.execute("write_outcomes", {"seqs": text([member.seq for member in members])})
    return members


def note_removed(tx: Tx, seqs: Sequence[int]) -> list[Member]:
    """`note` for jobs that are about to be deleted before they have ended, which counts as cancelled."""
    found = tx.all("members", {"seqs": text(seqs), "ended": False})
    members = [Member(seq, flow, node, _X) for seq, flow, node, _ in found]
    _count(tx, members)
    if nodes := _nodes(members):
        tx.execute("write_removals", {"nodes": text(nodes)})
    return members


def resolve(tx: Tx, members: list[Member], *, removed: bool = False) -> None:
    """Let go of children whose parents have ended, end those that cannot go on, and so on down the line."""
    flows = {member.flow for member in members}
    while nodes := _nodes(members):
        members = _tell_children(tx, nodes, removed=removed)
        removed = False
    if flows:
        follow(tx, flows)


def _nodes(members: list[Member]) -> list[int]:
    return [member.node for member in members if member.node is not None]


def _count(tx: Tx, members: list[Member]) -> None:
    for (flow, state), count in _by_flow(members).items():
        values = {"flow": flow, "completed": 0, "failed": 0, "cancelled": 0, str(STATE[state]): count}
        tx.execute("count_ends", values)


def _by_flow(members: Iterable[Member]) -> Counter[tuple[int, int]]:
    return Counter([(member.flow, member.state) for member in members])


# --- children --------------------------------------------------------------------------


def _tell_children(tx: Tx, nodes: list[int], *, removed: bool) -> list[Member]:
    """One level down: gives the children that have ended by that."""
    waits: dict[int, int] = {}
    less: Counter[int] = Counter()
    why: dict[int, tuple[int, str | None]] = {}
    names: dict[int, str] = {}
    for seq, left, on_failure, state, queue, job, failure, stopped in tx.all("children_of", {"nodes": text(nodes)}):
        waits[seq] = left
        less[seq] += 1
        if state != _C and on_failure == OnFailure.FAIL and seq not in why:
            names = names or dict(tx.all("queue_names"))
            why[seq] = (_X, None) if stopped else (_F, _why(names[queue], job, state, failure, removed=removed))
    going_on = [(seq, count) for seq, count in less.items() if seq not in why and waits[seq] > count]
    if going_on:
        tx.execute("wait_less", {"changes": text(going_on)})
    arrive(tx, [seq for seq, count in less.items() if seq not in why and waits[seq] <= count])
    return fall(tx, why)


def _why(queue: str, job: str, state: int, failure: str | None, *, removed: bool) -> str | None:
    read = None if failure is None else rows.read_failure(failure)
    return rows.failure_text(parent_failure(queue, job, STATE[state], read, removed=removed))


def arrive(tx: Tx, seqs: Sequence[int]) -> None:
    """Blocked jobs come to wait, now or after their delay."""
    if not seqs:
        return
    found = tx.all("freed", {"seqs": text(seqs)})
    tx.execute("free", {"now": tx.now, "moves": text([(row[0], row[4]) for row in found])})
    keys.arrive(tx, [row[0] for row in found if row[5] and not row[4] > 0])
    told = [row for row in found if row[4] > 0 or not row[5]]
    for (lane, delayed), its in _grouped(told, lambda row: (row[2], row[4] > 0)).items():
        queue, queue_name, name = lane_of(tx, lane)
        state = _D if delayed else _W
        tx.count(lane, _B, state, len(its))
        tx.tell(queue, STATE[state], [(id, name, attempt) for _, id, _, attempt, *_ in its])
        if not delayed:
            tx.woken.add(queue_name)


def fall(tx: Tx, why: Mapping[int, tuple[int, str | None]]) -> list[Member]:
    """Blocked jobs end because of a parent: `why` has for each the state and the failure. Gives them."""
    if not why:
        return []
    moves = [(seq, state, failure) for seq, (state, failure) in why.items()]
    fallen = tx.all("fall", {"now": tx.now, "moves": text(moves)})
    for (lane, state), its in _grouped(fallen, lambda row: (row[2], row[4])).items():
        queue, _, name = lane_of(tx, lane)
        tx.count(lane, _B, state, len(its))
        facts: list[tuple[Any, ...]] = [(id, name, attempt) for _, id, _, attempt, _, _ in its]
        if state == _F:
            facts = [(*fact, rows.read_failure(row[5])) for fact, row in zip(facts, its, strict=True)]
        tx.tell(queue, STATE[state], facts)
    return note(tx, list(why))


# --- the flow as a whole -----------------------------------------------------------------


def follow(tx: Tx, flows: Iterable[int]) -> None:
    """Where flows have ended by now, say so and add the jobs that follow them, each once."""
    values = {"now": tx.now, "look": tx.now + int(FLOW_KEPT * 1_000_000), "flows": text(sorted(flows))}
    for flow, completed, completed_job, settled_job, completed_added, settled_added in tx.all("end_flows", values):
        tx.execute("note_followers", {"flow": flow, "completed": completed})
        followers = [
            job
            for job, due in ((completed_job, completed and not completed_added), (settled_job, not settled_added))
            if job is not None and due
        ]
        if followers:
            dedup.add(tx, [_read_new(job) for job in followers])


# --- running again -----------------------------------------------------------------------


def revive(tx: Tx, seqs: Sequence[int]) -> dict[int, int]:
    """Ended jobs are about to run again: take their ends back.

    Gives by their rows those that have parents which have not ended, and how many.
    """
    members = [Member._make(row) for row in tx.all("members", {"seqs": text(seqs), "ended": True})]
    for (flow, state), count in _by_flow(members).items():
        tx.execute("count_back", {"flow": flow, "failed": 0, "cancelled": 0, str(STATE[state]): count})
    nodes = _nodes(members)
    if not nodes:
        return {}
    more = Counter([row[0] for row in tx.all("children_of", {"nodes": text(nodes)})])
    tx.execute("wait_less", {"changes": text([(seq, -count) for seq, count in more.items()])})
    tx.execute("forget_outcomes", {"nodes": text(nodes)})
    return dict(tx.all("unended_parents", {"nodes": text(nodes)}))


def _grouped(found: Iterable[Any], key: Any) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for row in found:
        groups.setdefault(key(row), []).append(row)
    return groups
