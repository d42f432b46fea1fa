"""The parents of a run's job, and the jobs that the run adds beside it.

For the loop's own thread; a run in a thread or a child process gets here over a bridge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from muskox.core.errors import LeaseLost
from muskox.core.flows import FlowJob, Parent, child_id
from muskox.core.job import Job, Lease, NewJob
from muskox.store.protocol import Store

__all__ = ["Kin"]


class Kin:
    """What one run knows of other jobs. A job in no flow costs nothing: nothing is read before it is asked for."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._made: Counter[str] = Counter()

    async def parents(self) -> list[Parent]:
        """The parents of the job, with what they gave."""
        return await self._store.parents(self._lease.queue, self._lease.job_id)

    async def add(self, jobs: Sequence[NewJob], *, named: bool = False) -> list[Job]:
        """Add jobs under the lease; unless they are `named`, their ids are made so that a later attempt finds them.

        Raises `LeaseLost`, and nothing was added.
        """
        chosen = [FlowJob(job if named else self._named(job)) for job in jobs]
        answers = await self._store.branch(self._lease, chosen)
        if answers is None:
            raise LeaseLost(f"job {self._lease.job_id} is no longer this run's: nothing was added")
        return [answer.job for answer in answers]

    def _named(self, job: NewJob) -> NewJob:
        id = child_id(self._lease.job_id, job)
        self._made[id] += 1
        number = self._made[id]
        return msgspec.structs.replace(job, id=id if number == 1 else f"{id}.{number}")
