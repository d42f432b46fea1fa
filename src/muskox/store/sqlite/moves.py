"""The steps that move jobs along their life: add, claim, settle, renew, annotate.

Each runs inside one transaction and is handed its `Tx`. Moves made by hand
and by upkeep are in `hand.py` and `upkeep.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec

from muskox.core import life
from muskox.core.failure import FailureKind
from muskox.core.job import Job, JobState, Lease, NewJob
from muskox.core.life import Complete, Settlement
from muskox.store.protocol import Added, Note
from muskox.store.sqlite import rows
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = ["add", "annotate", "find_lane", "get", "renew", "settle", "still_held", "text"]

_W, _D, _A = NUMBER[JobState.WAITING], NUMBER[JobState.DELAYED], NUMBER[JobState.ACTIVE]
_C, _F = NUMBER[JobState.COMPLETED], NUMBER[JobState.FAILED]
_ENDS = {life.Complete: (_C,), life.Fail: (_F,)}
"""The states in which settlements leave a job; the others let it wait, now or later."""
_MOST_LINES = 1000
_MOST_LINE = 4000

_encode = msgspec.json.Encoder().encode


def text(value: Any) -> str:
    """A list of rows as the one JSON text in which it travels to a statement."""
    return _encode(value).decode()


def find_lane(tx: Tx, queue: str, name: str) -> tuple[int, int]:
    """Give the numbers of a queue and of its lane for a name, made now if there are none."""
    key = {"queue": queue, "name": name}
    found = tx.one("find_lane", key)
    if found is None:
        tx.execute("add_queue", key)
        tx.execute("add_lane", key)
        found = tx.one("find_lane", key)
    assert found is not None
    return found[0], found[1]


def get(tx: Tx, queue: str, ids: Sequence[str]) -> list[Job | None]:
    """Read jobs in the order of their ids."""
    cursor = tx.execute("get", {"queue": queue, "ids": text(ids)})
    cursor.row_factory = sqlite3.Row
    found = {row["id"]: rows.full(row) for row in cursor}
    return [found.get(id) for id in ids]


# --- add -------------------------------------------------------------------------------


def add(tx: Tx, jobs: Sequence[NewJob]) -> list[Added]:
    """Store new jobs; those with known ids are answered with what is there."""
    answers: list[Added] = []
    for _, run in groupby(jobs, key=lambda job: (job.queue, job.name, job.priority, job.delay, job.options)):
        answers += _add_alike(tx, list(run))
    return answers


def _add_alike(tx: Tx, jobs: list[NewJob]) -> list[Added]:
    first = jobs[0]
    queue, lane = find_lane(tx, first.queue, first.name)
    values = {**rows.columns(first, tx.now), "queue": queue, "lane": lane}
    answers = _add_new(tx, jobs, values) or [_add_one(tx, job, values) for job in jobs]
    made = [answer.job for answer in answers if answer.created]
    if made:
        tx.count(lane, None, values["state"], len(made))
        tx.tell(queue, "delayed" if first.delay > 0 else "waiting", [(job.id, job.name) for job in made])
        if first.delay <= 0:
            tx.woken.add(first.queue)
    return answers


def _add_new(tx: Tx, jobs: list[NewJob], values: dict[str, Any]) -> list[Added] | None:
    """Store them in one statement; None, and nothing stored, when an id is known."""
    if len(jobs) == 1:
        return None
    tx.db.execute("SAVEPOINT adding")
    done = tx.execute("add_jobs", {**values, "pairs": text([(job.id, job.data) for job in jobs])})
    if done.rowcount != len(jobs):
        tx.db.execute("ROLLBACK TO adding")
    tx.db.execute("RELEASE adding")
    return [Added(rows.fresh(job, tx.now), True) for job in jobs] if done.rowcount == len(jobs) else None


def _add_one(tx: Tx, job: NewJob, values: dict[str, Any]) -> Added:
    if tx.execute("add_job", {**values, "id": job.id, "data": job.data}).rowcount == 1:
        return Added(rows.fresh(job, tx.now), True)
    [known] = get(tx, job.queue, [job.id])
    assert known is not None, "the id was refused because it is there"
    return Added(known, False)


# --- settle ----------------------------------------------------------------------------


def settle(tx: Tx, settlements: Sequence[Settlement]) -> list[Lease]:
    """Write what became of runs; give back the leases that were lost."""
    plain = [one for one in settlements if type(one) is Complete and one.keep is None and one.unkept is None]
    lost = _complete(tx, plain) if plain else []
    if len(plain) < len(settlements):
        others = [
            one for one in settlements if type(one) is not Complete or one.keep is not None or one.unkept is not None
        ]
        lost += _settle_others(tx, others)
    return lost


def _complete(tx: Tx, done: list[Complete]) -> list[Lease]:
    """Complete a batch in one statement; only when one of them is lost, find out which."""
    tx.db.execute("SAVEPOINT completing")
    changed = _write_complete(tx, done)
    lost: list[Lease] = []
    if changed != len(done):
        tx.db.execute("ROLLBACK TO completing")
        held = still_held(tx, [one.lease for one in done])
        lost = [one.lease for one in done if _fence(one.lease) not in held and not _repeats(tx, one)]
        done = list({one.lease.row: one for one in done if _fence(one.lease) in held}.values())
        _write_complete(tx, done)
    tx.db.execute("RELEASE completing")
    for (queue, name), leases in _by_lane(done):
        number, lane = find_lane(tx, queue, name)
        tx.count(lane, _A, _C, len(leases))
        tx.tell(number, "completed", [(lease.job_id, name, lease.attempt) for lease in leases])
    return lost


def _write_complete(tx: Tx, done: list[Complete]) -> int:
    records = [(one.lease.row, one.lease.token, one.result) for one in done]
    return tx.execute("complete", {"now": tx.now, "done": text(records)}).rowcount


def _settle_others(tx: Tx, settlements: Sequence[Settlement]) -> list[Lease]:
    held = still_held(tx, [one.lease for one in settlements])
    lost = []
    for one in settlements:
        if _fence(one.lease) in held:
            held.discard(_fence(one.lease))
            _settle_one(tx, one)
        elif not _repeats(tx, one):
            lost.append(one.lease)
    return lost


def _settle_one(tx: Tx, one: Settlement) -> None:
    lease = one.lease
    queue, lane = find_lane(tx, lease.queue, lease.name)
    state, changes, kind, facts = _meaning(tx, one)
    tx.tell(queue, kind, [(lease.job_id, lease.name, lease.attempt, *facts)])
    if isinstance(one, life.Complete | life.Fail) and one.keep == 0:
        remove(tx, [lease.row])
        tx.count(lane, _A, None)
        return
    values = {"refund": 0, "stalls": 0, "releases": 0, "due": None, "arrival": tx.now, "ended": None, "clear_at": None,
              "result": None, "failure": None, "seq": lease.row, "state": state}  # fmt: skip
    tx.execute("settle", values | changes)
    tx.count(lane, _A, state)
    if state == _W:
        tx.tell(queue, "waiting", [(lease.job_id, lease.name, lease.attempt - changes.get("refund", 0))])
        tx.woken.add(lease.queue)


def _meaning(tx: Tx, one: Settlement) -> tuple[int, dict[str, Any], str, tuple[Any, ...]]:
    """What a settlement is in the tables: state, columns, the event's kind and its own fields."""
    match one:
        case life.Complete(_, result, unkept, keep):
            return _C, {**_ended(tx, keep), "result": result, "failure": rows.failure_text(unkept)}, "completed", ()
        case life.Fail(_, failure, keep):
            stalled = failure.kind is FailureKind.STALLED
            changes = {**_ended(tx, keep), "failure": rows.failure_text(failure), "refund": stalled, "stalls": stalled}
            return _F, changes, "failed", (failure,)
        case life.Retry(_, delay, failure):
            changes = {**_back(tx, delay), "failure": rows.failure_text(failure)}
            return (_D if delay > 0 else _W), changes, "retrying", (failure, delay)
        case life.Stall(_, delay, failure):
            changes = {**_back(tx, delay), "failure": rows.failure_text(failure), "refund": 1, "stalls": 1}
            [job] = get(tx, one.lease.queue, [one.lease.job_id])
            return (_D if delay > 0 else _W), changes, "stalled", (1 + (job.stalls if job else 0),)
        case life.Release():
            return _W, {"refund": 1, "releases": 1}, "released", ()


def _ended(tx: Tx, keep: float | None) -> dict[str, Any]:
    return {"ended": tx.now, "clear_at": None if keep is None else tx.now + int(keep * 1_000_000)}


def _back(tx: Tx, delay: float) -> dict[str, Any]:
    moment = tx.now + int(delay * 1_000_000)
    return {"arrival": moment, "due": moment if delay > 0 else None}


def _by_lane(done: list[Complete]) -> Iterable[tuple[tuple[str, str], list[Lease]]]:
    leases = [one.lease for one in done]
    lanes = {(lease.queue, lease.name) for lease in leases}
    if len(lanes) == 1:
        return [(lanes.pop(), leases)]
    return [(lane, [lease for lease in leases if (lease.queue, lease.name) == lane]) for lane in sorted(lanes)]


def still_held(tx: Tx, leases: Sequence[Lease]) -> set[tuple[Any, ...]]:
    """The fences, row and token, of those leases that still count.

    The row alone would not do: a worker may hold an old and a new lease of the same job.
    """
    return set(tx.all("still_held", {"leases": text([_fence(lease) for lease in leases])}))


def _fence(lease: Lease) -> tuple[int, int]:
    return lease.row, lease.token


def _repeats(tx: Tx, one: Settlement) -> bool:
    """Whether such a settlement was written before, so that saying it again changes nothing and loses nothing."""
    found = tx.one("settled_as", {"seq": one.lease.row, "token": one.lease.token, "id": one.lease.job_id})
    return found is not None and found[0] in _ENDS.get(type(one), (_W, _D))


def remove(tx: Tx, seqs: Sequence[int]) -> None:
    """Delete jobs with their logs."""
    tx.execute("remove", {"seqs": text(seqs)})
    tx.execute("remove_lines", {"seqs": text(seqs)})


# --- renew, annotate -------------------------------------------------------------------


def renew(tx: Tx, leases: Sequence[Lease], seconds: float) -> list[Lease]:
    """Prolong leases; give back the lost ones."""
    held = still_held(tx, leases)
    tx.execute("renew", {"until": tx.now + int(seconds * 1_000_000), "seqs": text([row for row, _ in held])})
    return [lease for lease in leases if _fence(lease) not in held]


def annotate(tx: Tx, notes: Sequence[Note]) -> list[Lease]:
    """Write what runs tell of their jobs; give back the lost leases."""
    held = still_held(tx, [note.lease for note in notes])
    lost = []
    for note in notes:
        if _fence(note.lease) in held:
            _annotate_one(tx, note)
        else:
            lost.append(note.lease)
    return lost


def _annotate_one(tx: Tx, note: Note) -> None:
    lease = note.lease
    queue, _ = find_lane(tx, lease.queue, lease.name)
    fact = (lease.job_id, lease.name, lease.attempt)
    if note.progress is not None or note.data is not None:
        tx.execute("note", {"seq": lease.row, "progress": note.progress, "data": note.data})
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
