"""The steps about jobs that have to be begun in time: when to look at them, and the end of those that were not.

A worker that comes too late does the same by itself, so nothing here is in the way of claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from muskox.core.failure import Failure
from muskox.core.job import Job, JobState, Options
from muskox.core.life import unbegun
from muskox.store.protocol import Finding
from muskox.store.sql import statements
from muskox.store.sqlite import rows
from muskox.store.sqlite.moves import find_lane, text
from muskox.store.sqlite.select import read
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = ["adopted", "audit", "expire", "late", "note"]

SQL = statements("muskox.store.sqlite", "expiry.sql")

_F = NUMBER[JobState.FAILED]
_LOOK = 60_000_000
"""Microseconds after which a job is looked at again that runs when its time is over, and may be given back."""


def note(tx: Tx, queue: int, ids: Sequence[str], options: Options, added: int) -> None:
    """Have jobs looked at when their time is over, if they have one."""
    if options.expires_in is not None:
        at = added + int(options.expires_in * 1_000_000) + 1
        tx.db.execute(SQL["expire_at"], {"at": at, "queue": queue, "ids": text(list(ids))})


def adopted(tx: Tx, jobs: Iterable[Job]) -> None:
    """`note` for jobs that were taken over from another store."""
    for job in jobs:
        if job.options.expires_in is not None and not job.settled:
            note(tx, find_lane(tx, job.queue, job.name)[0], [job.id], job.options, job.added_us)


def late(tx: Tx, limit: int) -> list[tuple[int, Job, Failure]]:
    """The jobs whose time is over and that nobody has begun with, by their rows; the others are looked at again."""
    found = tx.db.execute(SQL["expiring"], {"now": tx.now, "limit": limit}).fetchall()
    if not found:
        return []
    tx.db.executemany(SQL["looked_at"], [row[:3] for row in found])
    jobs = dict(read(tx, [row[3] for row in found if row[3] is not None]))
    over = []
    for _, queue, id, seq in found:
        job = jobs.get(seq)
        if job is None:
            continue
        failure = unbegun(job, tx.now)
        if failure is not None:
            over.append((seq, job, failure))
        elif not job.settled and job.attempt <= 1:
            note(tx, queue, [id], job.options, max(job.added_us, _again(tx, job)))
    return over


def _again(tx: Tx, job: Job) -> int:
    """From when the time of a job is to be counted so that it is looked at again a little later."""
    return tx.now + _LOOK - int((job.options.expires_in or 0.0) * 1_000_000) if job.attempt else job.added_us


def expire(tx: Tx, seq: int, job: Job, failure: Failure) -> None:
    """Fail a job that has left its line; the attempt is counted, as it is when a worker comes too late."""
    queue, lane = find_lane(tx, job.queue, job.name)
    tx.db.execute(SQL["expire"], {"seq": seq, "now": tx.now, "failure": rows.failure_text(failure)})
    tx.count(lane, NUMBER[job.state], _F)
    tx.tell(queue, "failed", [(job.id, job.name, 1, failure)])


def audit(tx: Tx) -> list[Finding]:
    """Whether all jobs that have to be begun in time are looked at then."""
    return [
        Finding("it has to be begun in time, and nobody looks", queue, id)
        for queue, id in tx.db.execute(SQL["audit_unexpiring"])
    ]
