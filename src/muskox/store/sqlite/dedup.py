"""The steps about dedup keys: which job has one, and what becomes of a second that is added.

Nothing is done here when a job starts or ends, but for what waits for the end of one: whether a key counts is seen from
the job that has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from muskox.core.dedup import Dedup
from muskox.core.errors import Duplicate
from muskox.core.job import Job, JobState, NewJob
from muskox.core.life import Complete, Fail, Settlement
from muskox.core.twins import are_any, fold, gone
from muskox.store.protocol import Added, Finding
from muskox.store.sql import statements
from muskox.store.sqlite import adding, expiry, keys, rows
from muskox.store.sqlite.moves import find_lane, get, remove, text
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = ["add", "adopted", "audit", "end_windows", "ended", "ended_of", "sweep"]

SQL = statements("muskox.store.sqlite", "dedup.sql")

_A = NUMBER[JobState.ACTIVE]
_STARTED, _ENDED, _WINDOW = 0, 1, 2
_LOOK = 3_600_000_000
"""Microseconds after which clear looks whether a job that has a key is there still."""

_read_new = msgspec.json.Decoder(NewJob).decode


class _Holder(NamedTuple):
    """The job that has, or had, a key, and its row as far as it is there."""

    id: str
    rule: int
    over: int | None
    seq: int | None
    lane: int
    state: int
    priority: int
    started: int | None

    def counts(self, now: int) -> bool:
        """Whether the key is not free."""
        if self.rule == _WINDOW:
            return now < (self.over or 0)
        return self.seq is not None and (self.state <= _A if self.rule == _ENDED else self.is_unbegun)

    @property
    def is_unbegun(self) -> bool:
        return self.seq is not None and self.state < _A and self.started is None

    @property
    def is_unended(self) -> bool:
        return self.seq is not None and self.state <= _A


def add(tx: Tx, given: Sequence[NewJob]) -> list[Added]:
    """Store new jobs, as `adding.add` does, but for those whose key another job has."""
    if not are_any(given):
        return adding.add(tx, given)
    jobs, places = fold(given)
    held = _held(tx, jobs)
    for place, holder in held.items():
        if _rule(jobs[place]).then == "reject":
            raise Duplicate(jobs[place].queue, _rule(jobs[place]).key, holder.id)
    found = {place: answer for place, holder in held.items() if (answer := _meet(tx, jobs[place], holder)) is not None}
    new = {place: job for place, job in enumerate(jobs) if place not in found}
    for place, job in new.items():
        if place in held:
            new[place] = msgspec.structs.replace(job, id=held[place].id)
    for (place, _), answer in zip(new.items(), adding.add(tx, list(new.values())), strict=True):
        found[place] = Added(answer.job, answer.created and place not in held)
        if answer.created and answer.job.options.dedup is not None:
            _hold(tx, answer.job)
    firsts = {place: at for at, place in reversed(list(enumerate(places)))}
    return [Added(found[place].job, found[place].created and firsts[place] == at) for at, place in enumerate(places)]


def _held(tx: Tx, jobs: Sequence[NewJob]) -> dict[int, _Holder]:
    """By the places of jobs that are new and whose keys are not free, which job has each."""
    held = {}
    for place, job in enumerate(jobs):
        if job.options.dedup is not None:
            queue, _ = find_lane(tx, job.queue, job.name)
            values = {"queue": queue, "id": job.id, "key": job.options.dedup.key}
            is_known, *holder = tx.db.execute(SQL["holder"], values).fetchone()
            if not is_known and holder[0] is not None and _Holder(*holder).counts(tx.now):
                held[place] = _Holder(*holder)
    return held


def _meet(tx: Tx, job: NewJob, holder: _Holder) -> Added | None:
    """What becomes of a job whose key another has; None: it takes that one's place, which has been removed."""
    then, place = _rule(job).then, {"queue": job.queue, "key": _rule(job).key}
    [there] = get(tx, job.queue, [holder.id]) if holder.seq is not None else [None]
    if there is None:
        return Added(gone(job, holder.id), False)
    if then in ("replace", "keep-last") and holder.is_unbegun:
        queue, _ = find_lane(tx, job.queue, job.name)
        tx.tell(queue, "updated", [(there.id, there.name, there.attempt)])
        if not _keeps_place(job, there):
            keys.leave(tx, [holder.seq or 0])
            remove(tx, [holder.seq or 0])
            tx.count(find_lane(tx, there.queue, there.name)[1], holder.state, None)
            return None
        values = {**rows.columns(job, tx.now), "seq": holder.seq, "data": job.data}
        tx.db.execute(SQL["rewrite"], values)
        [there] = get(tx, job.queue, [holder.id])
        assert there is not None, "it was there"
        _hold(tx, there)
        expiry.note(tx, queue, [there.id], there.options, there.added_us)
    elif then == "keep-last" and holder.is_unended:
        queue, _ = find_lane(tx, job.queue, job.name)
        tx.db.execute(SQL["remember"], place | {"queue": queue, "later": text(job)})
    return Added(there, False)


def _keeps_place(new: NewJob, there: Job) -> bool:
    """Whether a job that is replaced may stay where it is."""
    return (
        there.state in (JobState.WAITING, JobState.BLOCKED)
        and new.delay <= 0
        and (new.name, new.priority, new.key) == (there.name, there.priority, there.key)
    )


def _rule(job: NewJob) -> Dedup:
    assert job.options.dedup is not None, "it has a key"
    return job.options.dedup


def _hold(tx: Tx, job: Job) -> None:
    """Write down that a job has its key, which is free or its own."""
    rule = job.options.dedup
    assert rule is not None, "it has a key"
    queue, _ = find_lane(tx, job.queue, job.name)
    over = None if rule.window_us is None else job.added_us + rule.window_us
    kind = _WINDOW if over is not None else _STARTED if rule.until == "started" else _ENDED
    look = max(tx.now + _LOOK, over or 0)
    values = {"queue": queue, "key": rule.key, "job": job.id, "rule": kind, "over": over, "look": look}
    tx.db.execute(SQL["hold"], values)


def adopted(tx: Tx, jobs: Iterable[Job]) -> None:
    """Let jobs that were taken over have their keys, where these are free."""
    for job in jobs:
        rule = job.options.dedup
        if rule is not None and (rule.window is not None or not job.settled):
            queue, _ = find_lane(tx, job.queue, job.name)
            values = {"queue": queue, "id": job.id, "key": rule.key}
            _, *holder = tx.db.execute(SQL["holder"], values).fetchone()
            if holder[0] is None or not _Holder(*holder).counts(tx.now):
                _hold(tx, job)


# --- the end of jobs -------------------------------------------------------------------


def end_windows(tx: Tx, seqs: Sequence[int]) -> None:
    """Let keys go that jobs have for a window: they are about to be cancelled or removed."""
    for queue, id, options in tx.db.execute(SQL["keyed"], {"seqs": text(seqs)}).fetchall():
        rule = rows.read_options(options).dedup
        if rule is not None and rule.window is not None:
            tx.db.execute(SQL["end_window"], {"queue": queue, "key": rule.key, "job": id})


def ended_of(settlements: Sequence[Settlement]) -> dict[str, list[str]]:
    """The jobs that somebody waits for and that these settlements end, by queue."""
    found: dict[str, list[str]] = {}
    for one in settlements:
        if one.lease.tied and isinstance(one, Complete | Fail):
            found.setdefault(one.lease.queue, []).append(one.lease.job_id)
    return found


def ended(tx: Tx, jobs: Mapping[str, Sequence[str]]) -> None:
    """Add what was remembered until one of these jobs ends; those that have not ended are passed over."""
    for queue, ids in jobs.items():
        found = tx.one("find_queue", {"queue": queue})
        if found is not None and ids:
            _add_later(tx, found[0], ids)


def _add_later(tx: Tx, queue: int, ids: Sequence[str]) -> None:
    later = tx.db.execute(SQL["later_of"], {"queue": queue, "ids": text(ids)}).fetchall()
    for key, _ in later:
        tx.db.execute(SQL["let_go"], {"queue": queue, "key": key})
    if later:
        add(tx, [_read_new(one) for _, one in later])


def sweep(tx: Tx, limit: int) -> None:
    """Forget keys that count no more and whose jobs are gone."""
    for queue, key, is_over in tx.db.execute(SQL["to_look_at"], {"now": tx.now, "limit": limit}).fetchall():
        if is_over:
            tx.db.execute(SQL["let_go"], {"queue": queue, "key": key})
        else:
            tx.db.execute(SQL["look_again"], {"queue": queue, "key": key, "look": tx.now + _LOOK})


def audit(tx: Tx) -> list[Finding]:
    """Whether each job that nobody has begun with has its key, and nothing is kept to be added after one that ended."""
    found = [
        Finding(f"a job with the dedup key {key!r} is to be added after it, and it has ended", queue, id)
        for queue, id, key in tx.db.execute(SQL["audit_later"])
    ]
    for queue, number, id, options in tx.db.execute(SQL["audit_unheld"]).fetchall():
        rule = rows.read_options(options).dedup
        if rule is None or rule.window is not None:
            continue
        if tx.db.execute(SQL["has_holder"], {"queue": number, "key": rule.key}).fetchone() is None:
            found.append(Finding(f"nobody has its dedup key {rule.key!r}", queue, id))
    return found
