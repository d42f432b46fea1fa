"""The step that adds jobs where queues bound how many may wait: it adds them, and looks whether they fit.

While no queue of the store has a bound it is `dedup.add`.
"""

from __future__ import annotations

from collections.abc import Sequence

from muskox.core.errors import QueueFull
from muskox.core.job import JobState, NewJob
from muskox.core.limits import Limits, WhenFull
from muskox.store.protocol import Added
from muskox.store.sqlite import adding, dedup, hand, keys
from muskox.store.sqlite.moves import find_lane
from muskox.store.sqlite.tx import Tx

__all__ = ["add", "add_lone"]

_WAITS = (JobState.WAITING, JobState.BLOCKED)


def add_lone(tx: Tx, jobs: Sequence[NewJob]) -> list[Added] | None:
    """`adding.store`; None, and nothing done, where there are bounds."""
    return None if tx.bounded else adding.store(tx, jobs)


def add(tx: Tx, jobs: Sequence[NewJob]) -> list[Added]:
    """Store new jobs, all or none; raises `QueueFull`, or drops others, where they do not fit."""
    if not tx.bounded:
        return dedup.add(tx, jobs)
    tx.db.execute("SAVEPOINT bounds")
    try:
        answers = dedup.add(tx, jobs)
        tx.write()
        _fit(tx, answers)
    except BaseException:
        tx.db.execute("ROLLBACK TO bounds")
        raise
    finally:
        tx.db.execute("RELEASE bounds")
    return answers


def _fit(tx: Tx, answers: Sequence[Added]) -> None:
    new = [answer.job for answer in answers if answer.created and answer.job.state in _WAITS]
    for name in dict.fromkeys(job.queue for job in new):
        its = [job for job in new if job.queue == name]
        queue, _ = find_lane(tx, name, its[0].name)
        limits = keys.limits_of(tx, queue)
        if limits.max_waiting is not None:
            _fit_queue(tx, name, queue, limits, limits.max_waiting, len(its))


def _fit_queue(tx: Tx, name: str, queue: int, limits: Limits, most: int, new: int) -> None:
    [waiting] = tx.one("in_queue", {"queue": queue}) or [0]
    excess = waiting - most
    if excess <= 0:
        return
    drops = limits.when_full is WhenFull.DROP_OLDEST
    dropped = tx.all("first_to_go", {"queue": queue, "limit": excess}) if drops else []
    if len(dropped) < excess:
        raise QueueFull(name, most, waiting - new, new, may_wait=limits.when_full is WhenFull.WAIT)
    hand.remove_rows(tx, name, dropped)
