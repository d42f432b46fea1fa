"""The step that writes what became of runs.

Most jobs end well and leave nothing but that: they are written in one
statement per batch, and only when one of them is lost is it found out which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from muskox.core import life
from muskox.core.events import pack
from muskox.core.failure import FailureKind
from muskox.core.job import JobState, Lease
from muskox.core.life import Complete, Hold, Release, Settlement
from muskox.store.sqlite import dedup, endings, keys, limiting, rows
from muskox.store.sqlite.moves import Range, fence, find_lane, get, ranges, remove, still_held, text
from muskox.store.sqlite.tx import NUMBER, Again, Tx

__all__ = ["Settling"]

_W, _D, _B = NUMBER[JobState.WAITING], NUMBER[JobState.DELAYED], NUMBER[JobState.BLOCKED]
_A = NUMBER[JobState.ACTIVE]
_C, _F = NUMBER[JobState.COMPLETED], NUMBER[JobState.FAILED]

_ENDS = {life.Complete: (_C,), life.Fail: (_F,)}
"""The states in which settlements leave a job; the others let it wait, now or later."""


class Settling:
    """A step that writes settlements and gives back the leases that were lost.

    It is made in the thread of whoever settles, and there puts everything into the texts that travel to the
    statements, so that the line has nothing to do but to run them. `careful`: it looks first which are lost, as it must
    where it cannot begin anew.
    """

    def __init__(self, settlements: Sequence[Settlement], *, careful: bool = False) -> None:
        self._careful = careful
        tied = [one for one in settlements if one.lease.tied]
        self._ended = dedup.ended_of(tied) if tied else {}
        plain = [one for one in settlements if type(one) is Complete and one.keep is None and one.unkept is None]
        self._plain = _Batch.of(plain, tied=bool(tied)) if plain else None
        self._others: list[Settlement] = []
        if len(plain) < len(settlements):
            self._others = [
                one
                for one in settlements
                if type(one) is not Complete or one.keep is not None or one.unkept is not None
            ]

    def __call__(self, tx: Tx) -> list[Lease]:
        members: list[endings.Member] = []
        lost = self._complete(tx, self._plain, members) if self._plain is not None else []
        if self._others:
            lost = [*lost, *_settle_others(tx, self._others, members)]
        if self._ended:
            endings.resolve(tx, members)
            dedup.ended(tx, self._ended)
        return lost

    def _complete(self, tx: Tx, batch: _Batch, members: list[endings.Member]) -> list[Lease]:
        """Write completions as if none were lost; when that turns out to be wrong, begin anew and look first."""
        lost: list[Lease] = []
        if self._careful:
            batch, lost = _held_of(tx, batch)
        if batch.write(tx) != len(batch.done):
            assert not self._careful, "what is still held in a transaction can be settled in it"
            self._careful = True
            raise Again
        for (queue, name), jobs, facts in batch.lanes:
            number, lane = find_lane(tx, queue, name)
            tx.count(lane, _A, _C, jobs)
            tx.tell_packed(number, "completed", jobs, facts)
        if batch.tied:
            keys.finish(tx, batch.tied)
            tx.woken.update(queue for (queue, _), _, _ in batch.lanes)
            members += endings.note(tx, batch.tied)
        return lost


class _Batch(NamedTuple):
    """Completions, and the texts in which they travel: see the statements of the same names."""

    done: list[Complete]
    ranges: list[Range] | None
    """The jobs without a result, where they follow one another; else they are in the two texts."""
    seqs: str
    tokens: str
    results: str
    lanes: list[tuple[tuple[str, str], int, str]]
    """Queue and name, how many of the completions are theirs, and the facts to tell of them."""
    tied: list[int]
    """The jobs for whose end somebody waits."""

    @classmethod
    def of(cls, done: list[Complete], *, tied: bool) -> _Batch:
        leases = [one.lease for one in done]
        results = [(one.lease.row, one.lease.token, one.result) for one in done if one.result is not None]
        bare = leases if not results else [one.lease for one in done if one.result is None]
        seqs, tokens = [lease.row for lease in bare], [lease.token for lease in bare]
        found = ranges(seqs, tokens) if seqs else []
        return cls(
            done,
            found,
            text(seqs) if found is None else "",
            text(tokens) if found is None else "",
            text(results) if results else "",
            [
                (lane, len(its), pack([(one.job_id, one.name, one.attempt) for one in its]))
                for lane, its in _by_lane(leases)
            ],
            [lease.row for lease in leases if lease.tied] if tied else [],
        )

    def write(self, tx: Tx) -> int:
        """Complete the jobs; returns how many were changed."""
        changed = 0
        if self.ranges is None:
            changed = tx.execute("complete", {"now": tx.now, "seqs": self.seqs, "tokens": self.tokens}).rowcount
        for one in self.ranges or ():
            changed += tx.execute("complete_range", {"now": tx.now, **one._asdict()}).rowcount
        if self.results:
            changed += tx.execute("complete_with_results", {"now": tx.now, "done": self.results}).rowcount
        return changed


def _by_lane(leases: list[Lease]) -> list[tuple[tuple[str, str], list[Lease]]]:
    lanes = {(lease.queue, lease.name) for lease in leases}
    if len(lanes) == 1:
        return [(lanes.pop(), leases)]
    return [(lane, [lease for lease in leases if (lease.queue, lease.name) == lane]) for lane in sorted(lanes)]


def _held_of(tx: Tx, batch: _Batch) -> tuple[_Batch, list[Lease]]:
    """What of the batch still counts, each job once, and the leases that were lost."""
    held = still_held(tx, [one.lease for one in batch.done])
    lost = [one.lease for one in batch.done if fence(one.lease) not in held and not _repeats(tx, one)]
    kept = {one.lease.row: one for one in batch.done if fence(one.lease) in held}
    return _Batch.of(list(kept.values()), tied=bool(batch.tied)), lost


def _settle_others(tx: Tx, settlements: Sequence[Settlement], members: list[endings.Member]) -> list[Lease]:
    """Write settlements one by one: all but the plain completions. Adds to `members` jobs of flows that ended."""
    held = still_held(tx, [one.lease for one in settlements])
    settlements = [_with_hold(tx, one) if fence(one.lease) in held else one for one in settlements]
    with_keys = keys.leave(tx, [one.lease.row for one in settlements if one.lease.tied and fence(one.lease) in held])
    lost = []
    for one in settlements:
        if fence(one.lease) in held:
            held.discard(fence(one.lease))
            members += _settle_one(tx, one, _B if one.lease.row in with_keys else _W)
        elif not _repeats(tx, one):
            lost.append(one.lease)
    keys.arrive(tx, keys.blocked(tx, with_keys))
    return lost


def _with_hold(tx: Tx, one: Settlement) -> Settlement:
    """Hold what a settlement wants to be held, before others may follow; what is left of it is about its job alone."""
    if not isinstance(one, life.Release) or one.hold is Hold.JOB or one.delay <= 0:
        return one
    [job] = get(tx, one.lease.queue, [one.lease.job_id])
    key = None if job is None else job.key
    if one.hold is Hold.KEY and key is None:
        return Release(one.lease, one.delay)
    limiting.hold(tx, one.lease.queue, one.delay, key if one.hold is Hold.KEY else None)
    return Release(one.lease)


def _settle_one(tx: Tx, one: Settlement, again: int) -> list[endings.Member]:
    """`again` is the state of a job that is to run again and has no delay."""
    lease = one.lease
    queue, lane = find_lane(tx, lease.queue, lease.name)
    state, changes, kind, facts = _meaning(tx, one)
    state = again if state == _W else state
    tx.tell(queue, kind, [(lease.job_id, lease.name, lease.attempt, *facts)])
    ends = isinstance(one, life.Complete | life.Fail)
    is_kept = not isinstance(one, life.Complete | life.Fail) or one.keep != 0
    if not is_kept and not lease.tied:
        remove(tx, [lease.row])
        tx.count(lane, _A, None)
        return []
    values = {"refund": 0, "stalls": 0, "releases": 0, "due": None, "arrival": tx.now, "ended": None, "clear_at": None,
              "result": None, "failure": None, "seq": lease.row, "state": state}  # fmt: skip
    tx.execute("settle", values | changes)
    members = endings.note(tx, [lease.row]) if ends and lease.tied else []
    if lease.tied:
        tx.woken.add(lease.queue)
    if not is_kept:
        remove(tx, [lease.row])
    tx.count(lane, _A, state if is_kept else None)
    if state == _W:
        tx.tell(queue, "waiting", [(lease.job_id, lease.name, lease.attempt - changes.get("refund", 0))])
        tx.woken.add(lease.queue)
    return members


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
        case life.Release(_, delay):
            return (_D if delay > 0 else _W), {**_back(tx, delay), "refund": 1, "releases": 1}, "released", ()


def _ended(tx: Tx, keep: float | None) -> dict[str, Any]:
    return {"ended": tx.now, "clear_at": None if keep is None else tx.now + int(keep * 1_000_000)}


def _back(tx: Tx, delay: float) -> dict[str, Any]:
    moment = tx.now + int(delay * 1_000_000)
    return {"arrival": moment, "due": moment if delay > 0 else None}


def _repeats(tx: Tx, one: Settlement) -> bool:
    """Whether such a settlement was written before, so that saying it again changes nothing and loses nothing."""
    found = tx.one("settled_as", {"seq": one.lease.row, "token": one.lease.token, "id": one.lease.job_id})
    return found is not None and found[0] in _ENDS.get(type(one), (_W, _D, _B))
