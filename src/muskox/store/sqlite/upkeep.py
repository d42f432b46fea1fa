"""The steps of upkeep: promote what is due, take back what stalled, clear what is old.

Bounded: each step moves at most as many jobs as it was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import DEFAULT_MAX_STALLS, JobState, Retention
from muskox.core.life import stall_delay
from muskox.store.protocol import Recovered
from muskox.store.sqlite import dedup, endings, expiry, flows, keys, limiting, rows
from muskox.store.sqlite.moves import remove, text
from muskox.store.sqlite.select import Row, lane_of, read
from muskox.store.sqlite.tx import NUMBER, STATE, Tx

__all__ = ["clear", "promote_due", "recover"]

_W, _D, _B = NUMBER[JobState.WAITING], NUMBER[JobState.DELAYED], NUMBER[JobState.BLOCKED]
_A, _F = NUMBER[JobState.ACTIVE], NUMBER[JobState.FAILED]
_MOST_EVENTS = 100_000


def promote_due(tx: Tx, limit: int) -> int:
    """Let due jobs wait; they arrive at the moment they were due."""
    found = tx.all("due", {"now": tx.now, "limit": limit})
    tx.execute("promote_due", {"seqs": text([row[0] for row in found])})
    for (lane, has_key), its in _grouped(found, lambda row: (row[2], row[4])).items():
        tx.count(lane, _D, _B if has_key else _W, len(its))
        if not has_key:
            queue, queue_name, name = lane_of(tx, lane)
            tx.tell(queue, "waiting", [(id, name, attempt) for _, id, _, attempt, _ in its])
            tx.woken.add(queue_name)
    keys.arrive(tx, [row[0] for row in found if row[4]])
    limiting.look_at_due(tx, limit)
    _expire(tx, limit)
    return len(found)


def _expire(tx: Tx, limit: int) -> None:
    """Fail jobs that had to be begun in time and that nobody has come for."""
    late = expiry.late(tx, limit)
    if not late:
        return
    keys.leave(tx, [seq for seq, _, _ in late])
    for seq, job, failure in late:
        expiry.expire(tx, seq, job, failure)
    endings.ended(tx, [seq for seq, _, _ in late])
    for _, job, _ in late:
        dedup.ended(tx, {job.queue: [job.id]})


def recover(tx: Tx, limit: int) -> list[Recovered]:
    """Take back active jobs whose lease ran out."""
    found = tx.all("stalled", {"now": tx.now, "limit": limit, "max_stalls": DEFAULT_MAX_STALLS})
    workers = {row[0]: row[4] for row in found}
    with_keys = keys.leave(tx, [row[0] for row in found if row[5]])
    for seq, lane, stalls, max_stalls, worker, has_key in found:
        _recover_one(tx, seq, lane, stalls + 1, max_stalls, worker, _B if has_key else _W)
    keys.arrive(tx, keys.blocked(tx, with_keys))
    back = read(tx, list(workers))
    endings.ended(tx, [seq for seq, job in back if job.settled])
    for _, job in back:
        if job.settled:
            dedup.ended(tx, {job.queue: [job.id]})
    return [Recovered(job, workers[seq]) for seq, job in back]


def _recover_one(tx: Tx, seq: int, lane: int, stalls: int, max_stalls: int, worker: str, again: int) -> None:
    queue, queue_name, name = lane_of(tx, lane)
    delay = stall_delay(stalls)
    failure = None
    if stalls > max_stalls:
        state = _F
        said = f"its lease ran out {stalls} times, {max_stalls} are allowed; last held by worker {worker}"
        failure = Failure(FailureKind.STALLED, "Stalled", said)
    else:
        state = _D if delay > 0 else again
    arrival = tx.now + int(delay * 1_000_000)
    values = {"seq": seq, "state": state, "due": arrival if state == _D else None, "arrival": arrival,
              "ended": tx.now if state == _F else None, "failure": rows.failure_text(failure)}  # fmt: skip
    tx.execute("recover", values)
    [(_, job)] = read(tx, [seq])
    tx.count(lane, _A, state)
    tx.tell(queue, "stalled", [(job.id, name, job.attempt, stalls)])
    if state == _F:
        tx.tell(queue, "failed", [(job.id, name, job.attempt, failure)])
    elif state != _B:
        tx.tell(queue, STATE[state], [(job.id, name, job.attempt)])
    tx.woken.add(queue_name)


def clear(tx: Tx, rules: Mapping[str, Retention], limit: int) -> int:
    """Delete settled jobs whose time is over, and events beyond the number that is kept."""
    dedup.sweep(tx, limit)
    tx.execute("trim_events", {"horizon": tx.event - _MOST_EVENTS})
    cleared = _clear(tx, tx.all("expired", {"now": tx.now, "limit": limit}))
    names = dict(tx.all("queue_names"))
    tx.write()
    for queue, *totals in tx.all("state_totals"):
        rule = rules.get(names[queue]) or Retention()
        bounds = zip(
            (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED),
            totals,
            (rule.completed_for, rule.failed_for, rule.failed_for),
            (rule.completed_most, rule.failed_most, rule.failed_most),
            strict=True,
        )
        for state, total, seconds, most in bounds:
            if total and cleared < limit:
                cleared += _clear_state(tx, queue, NUMBER[state], seconds, total - most, limit - cleared)
    flows.clear(tx, limit)
    limiting.forget(tx, limit)
    return cleared


def _clear_state(tx: Tx, queue: int, state: int, seconds: float, excess: float, limit: int) -> int:
    values = {"queue": queue, "state": state, "limit": limit, "before": tx.now - int(seconds * 1_000_000)}
    cleared = _clear(tx, tx.all("outdated", values))
    more = min(limit - cleared, int(excess) - cleared)
    if more > 0:
        cleared += _clear(tx, tx.all("oldest_ended", {**values, "limit": more}))
    return cleared


def _clear(tx: Tx, found: Sequence[Row]) -> int:
    if found:
        remove(tx, [row[0] for row in found])
        for (lane, state), its in _grouped(found, lambda row: (row[2], row[3])).items():
            tx.count(lane, state, None, len(its))
    return len(found)


def _grouped(found: Iterable[Any], key: Any) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for row in found:
        groups.setdefault(key(row), []).append(row)
    return groups
