"""Puts jobs of which some have a dedup key into the form in which they travel, and reads the answer. It asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muskox.core.dedup import Dedup
from muskox.core.errors import Duplicate, QueueFull
from muskox.core.job import Lease, NewJob
from muskox.core.life import Complete, Fail, Settlement
from muskox.core.twins import fold, gone
from muskox.store.protocol import Added
from muskox.store.redis.ids import long, packable
from muskox.store.redis.records import AWAITED, Reader, added, groups

__all__ = ["Adding", "ended", "rule"]

_KINDS = {"started": 0, "ended": 1}
_WINDOW = 2


def rule(of: Dedup | None) -> tuple[Any, ...] | bool:
    """A rule as `dedup.lua` has it; False for none."""
    if of is None:
        return False
    kind = _KINDS[of.until] if of.window is None else _WINDOW
    return of.key, kind, of.window_us or 0, of.then


class Adding:
    """New jobs as `add_once.lua` takes them, and what its answer means."""

    def __init__(self, jobs: Sequence[NewJob]) -> None:
        self._jobs, self._places = fold(jobs)
        runs: list[list[NewJob]] = []
        for job in self._jobs:
            if job.options.dedup is None and runs and runs[-1][0].options.dedup is None:
                runs[-1].append(job)
            else:
                runs.append([job])
        found = [(group, rule(run[0].options.dedup)) for run in runs for group in groups(run)]
        self.asked = [group for group, _ in found], [its for _, its in found]

    def answers(self, said: Sequence[Any]) -> list[Added]:
        """What became of the jobs; raises `Duplicate` when one was refused, `QueueFull` when they do not fit."""
        if said[0] == -1:
            _, queue, most, waiting, wanted, may_wait = said
            raise QueueFull(queue.decode(), most, waiting, wanted, may_wait=bool(may_wait))
        now, refused, holder, held, others = said
        if refused:
            job = self._jobs[refused - 1]
            assert job.options.dedup is not None, "it has a key"
            raise Duplicate(job.queue, job.options.dedup.key, long(holder))
        found = added(self._jobs, (now, held, ()))
        for number, id, record in zip(others[::3], others[1::3], others[2::3], strict=True):
            job = self._jobs[number - 1]
            there = long(id) if id else job.id
            its = Reader(job.queue).job(there, record) if record else gone(job, there)
            found[number - 1] = Added(its, False)
        seen: set[int] = set()
        answers = []
        for place in self._places:
            answers.append(found[place] if place not in seen else Added(found[place].job, False))
            seen.add(place)
        return answers


def ended(settlements: Sequence[Settlement]) -> list[tuple[str, list[bytes | str]]]:
    """The jobs that something is to be added after and that these settlements end, by queue."""
    tied = [one for one in settlements if one.lease.tied and isinstance(one, Complete | Fail)]
    leases: list[Lease] = [one.lease for one in tied if one.lease.row == AWAITED]
    queues = dict.fromkeys(lease.queue for lease in leases)
    return [(queue, [packable(one.job_id) for one in leases if one.queue == queue]) for queue in queues]
