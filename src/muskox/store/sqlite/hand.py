"""The steps made by hand: promote, retry, cancel, remove, update, pause, and what is told from outside.

Each takes a selection and moves those of its jobs that are in a state that
allows it; the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from muskox.core.events import Event
from muskox.core.job import Job, JobState
from muskox.core.life import MOVES
from muskox.store.protocol import Selection, WorkerRecord
from muskox.store.sqlite import dedup, endings, keys
from muskox.store.sqlite.moves import get, remove, text
from muskox.store.sqlite.select import Row, lane_of, matching
from muskox.store.sqlite.tx import NUMBER, STATE, Tx

__all__ = [
    "beat",
    "cancel",
    "cancel_rows",
    "pause",
    "promote",
    "publish",
    "remove_rows",
    "remove_selected",
    "retry",
    "retry_rows",
    "update",
]

_FORGOTTEN = 3_600_000_000

_W, _B = NUMBER[JobState.WAITING], NUMBER[JobState.BLOCKED]
_A, _X = NUMBER[JobState.ACTIVE], NUMBER[JobState.CANCELLED]


def promote(tx: Tx, selection: Selection) -> int:
    """Let selected delayed jobs wait, whatever their due; they arrive now."""
    return _wait_again(tx, _movable(tx, selection, "promote"), grant=0)


def retry(tx: Tx, selection: Selection) -> int:
    """Let selected failed or cancelled jobs wait again, with one more attempt."""
    return retry_rows(tx, _movable(tx, selection, "retry"))


def retry_rows(tx: Tx, found: list[Row]) -> int:
    """`retry` for jobs that are known to allow it. Those with parents that have not ended are blocked by them."""
    waits = endings.revive(tx, [row[0] for row in found])
    _wait_again(tx, [row for row in found if row[0] not in waits], grant=1)
    if waits:
        blocked = [row for row in found if row[0] in waits]
        tx.execute("wait_again", {"now": tx.now, "grant": 1, "seqs": text(list(waits))})
        tx.execute("block_again", {"waits": text(list(waits.items()))})
        _tell(tx, blocked, "blocked", _B)
    return len(found)


def cancel(tx: Tx, selection: Selection) -> int:
    """End selected jobs that have not ended; their leases are lost by that."""
    found = _movable(tx, selection, "cancel")
    count = cancel_rows(tx, found)
    dedup.ended(tx, {selection.queue: [row[1] for row in found]})
    return count


def cancel_rows(tx: Tx, found: list[Row]) -> int:
    """`cancel` for jobs that are known not to have ended."""
    dedup.end_windows(tx, [row[0] for row in found])
    keys.leave(tx, [row[0] for row in found])
    tx.execute("cancel", {"now": tx.now, "seqs": text([row[0] for row in found])})
    _tell(tx, found, "cancelled", _X)
    _wake(tx, found)
    endings.ended(tx, [row[0] for row in found])
    return len(found)


def remove_selected(tx: Tx, selection: Selection) -> int:
    """Delete selected jobs; active ones only by their ids or when their state was asked for."""
    if selection.ids is None and not selection.states:
        selection = _in_states(selection, [state for state in JobState if state is not JobState.ACTIVE])
    return remove_rows(tx, selection.queue, matching(tx, selection))


def remove_rows(tx: Tx, queue: str, found: list[Row]) -> int:
    """`remove_selected` for jobs of a queue that are there."""
    seqs = [row[0] for row in found]
    dedup.end_windows(tx, seqs)
    members = endings.note_removed(tx, seqs)
    keys.leave(tx, seqs)
    remove(tx, seqs)
    _tell(tx, found, "removed", None)
    _wake(tx, found)
    endings.resolve(tx, members, removed=True)
    dedup.ended(tx, {queue: [row[1] for row in found]})
    return len(found)


def update(tx: Tx, queue: str, id: str, data: str) -> Job | None:
    """Replace the data of a job whose state allows it; give the job as it is now."""
    for seq, _, lane, _, attempt, *_ in _movable(tx, Selection(queue, ids=(id,)), "update"):
        number, _, name = lane_of(tx, lane)
        tx.execute("update_data", {"seq": seq, "data": data})
        tx.tell(number, "updated", [(id, name, attempt)])
    return get(tx, queue, [id])[0]


def pause(tx: Tx, queue: str, paused: bool) -> bool:
    """Stop or allow claims from a queue, also one that has had no job yet."""
    tx.execute("add_queue", {"queue": queue})
    changed = tx.execute("pause", {"queue": queue, "paused": paused}).rowcount == 1
    found = tx.one("find_queue", {"queue": queue})
    if changed and found is not None:
        tx.tell(found[0], "paused" if paused else "resumed", [()])
        if not paused:
            tx.woken.add(queue)
    return changed


def publish(tx: Tx, events: Sequence[Event]) -> None:
    """Append facts that are not moves, at offsets and a moment of the store."""
    for event in events:
        tx.execute("add_queue", {"queue": event.queue})
        found = tx.one("find_queue", {"queue": event.queue})
        assert found is not None, "it was made above"
        tx.tell(found[0], event.kind, [msgspec.structs.astuple(event)[3:]])


def beat(tx: Tx, worker: WorkerRecord, gone: bool) -> None:
    """Record that a worker lives or is gone, and forget those that have been silent for an hour."""
    if gone:
        tx.execute("forget_worker", {"id": worker.id})
    else:
        tx.execute("beat", {"id": worker.id, "now": tx.now, "record": msgspec.json.encode(worker).decode()})
        tx.execute("forget_workers", {"before": tx.now - _FORGOTTEN})


def _movable(tx: Tx, selection: Selection, verb: str) -> list[Row]:
    allowed = [state for state in selection.states or tuple(JobState) if state in MOVES[verb]]
    return matching(tx, _in_states(selection, allowed)) if allowed else []


def _in_states(selection: Selection, states: Iterable[JobState]) -> Selection:
    return Selection(selection.queue, selection.ids, tuple(states), selection.names, selection.limit)


def _wait_again(tx: Tx, found: list[Row], *, grant: int) -> int:
    seqs = [row[0] for row in found]
    tx.execute("wait_again", {"now": tx.now, "grant": grant, "seqs": text(seqs)})
    with_keys = set(keys.with_keys(tx, seqs))
    _tell(tx, [row for row in found if row[0] not in with_keys], "waiting", _W)
    for row in found:
        if row[0] in with_keys:
            tx.count(row[2], row[3], _B)
    keys.arrive(tx, [seq for seq in seqs if seq in with_keys])
    return len(found)


def _wake(tx: Tx, found: list[Row]) -> None:
    """Where active jobs were taken away, others may have waited for their slots."""
    for lane in {row[2] for row in found if row[3] == _A}:
        tx.woken.add(lane_of(tx, lane)[1])


def _tell(tx: Tx, found: list[Row], kind: str, target: int | None) -> None:
    by_lane: dict[int, list[Row]] = {}
    for row in found:
        by_lane.setdefault(row[2], []).append(row)
    for lane, its in by_lane.items():
        queue, queue_name, name = lane_of(tx, lane)
        for row in its:
            tx.count(lane, row[3], target)
        tx.tell(queue, kind, [(row[1], name, row[4]) for row in its])
        if target is not None and STATE[target] is JobState.WAITING:
            tx.woken.add(queue_name)
