"""Gathers what runs tell of their jobs, so that a chatty processor costs one write and not a thousand.

Progress told twice before it is written is written once, the latest; log lines
are all kept up to the cap of the store. Writing is the settler's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from muskox.core.errors import LeaseLost
from muskox.core.job import Lease
from muskox.core.life import Complete
from muskox.runtime.kin import Kin
from muskox.runtime.steps import StepKeeper
from muskox.store.protocol import Note, Store

__all__ = ["Teller"]

MOST_LINES = 1001
"""Lines that are kept for one job before they are written; the store keeps no more in all."""


class _Draft:
    __slots__ = ("lease", "lines", "progress")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.progress: str | None = None
        self.lines: list[str] = []


class Teller:
    """What runs have told and nobody has written yet. For the loop's own thread, `*_soon` for all."""

    def __init__(self, store: Store, data_limit: int, wake: Callable[[], None]) -> None:
        self.data_limit = data_limit
        self.loop = asyncio.get_running_loop()
        self._store = store
        self._wake = wake
        self._drafts: dict[int, _Draft] = {}
        self._told: dict[int, int] = {}

    def progress(self, lease: Lease, text: str) -> None:
        """Keep the latest progress of a job."""
        self._draft(lease).progress = text

    def line(self, lease: Lease, text: str) -> None:
        """Keep one more line of a job's log."""
        told = self._told.get(lease.token, 0)
        if told < MOST_LINES:
            self._told[lease.token] = told + 1
            self._draft(lease).lines.append(text)

    async def update(self, lease: Lease, data: str) -> None:
        """Replace the data of the job now; raises `LeaseLost` when the run may no longer speak for it."""
        if await self._store.annotate([Note(lease, data=data)]):
            raise LeaseLost(f"job {lease.job_id} is no longer this run's: its data was not changed")

    async def complete(self, done: Complete, within: Any) -> None:
        """Complete a job in a transaction of the caller's; raises `LeaseLost` when the run may not do that any more."""
        self._check_lost(await self._store.settle([done], within=within))

    def complete_here(self, done: Complete, within: Any) -> None:
        """As `complete`, in the caller's thread and on a blocking connection."""
        self._check_lost(self._store.settle_within([done], within))

    def _check_lost(self, lost: Sequence[Lease]) -> None:
        for lease in lost:
            raise LeaseLost(f"job {lease.job_id} is no longer this run's: it was not completed")

    def steps_of(self, lease: Lease) -> StepKeeper:
        """What keeps the steps of the run that has this lease."""
        return StepKeeper(partial(self._steps, lease), partial(self._keep_steps, lease), self.data_limit)

    def kin_of(self, lease: Lease) -> Kin:
        """What the run that has this lease knows of other jobs."""
        return Kin(self._store, lease)

    async def _steps(self, lease: Lease) -> str | None:
        [job] = await self._store.get(lease.queue, [lease.job_id])
        if job is None or job.lease is None or job.lease.token != lease.token:
            raise LeaseLost(f"job {lease.job_id} is no longer this run's: its steps are another's")
        return job.steps_text

    async def _keep_steps(self, lease: Lease, steps: str) -> None:
        if await self._store.annotate([Note(lease, steps=steps)]):
            raise LeaseLost(f"job {lease.job_id} is no longer this run's: its step was not kept")

    def take(self) -> list[Note]:
        """Give what was told since the last time."""
        notes = [Note(draft.lease, draft.progress, None, tuple(draft.lines)) for draft in self._drafts.values()]
        self._drafts.clear()
        return notes

    def put_back(self, notes: list[Note]) -> None:
        """Keep notes that could not be written; what was told since then is newer."""
        for note in notes:
            draft = self._draft(note.lease)
            draft.progress = draft.progress if draft.progress is not None else note.progress
            draft.lines[:0] = note.lines

    def forget(self, leases: Iterable[Lease]) -> None:
        """Drop the counts of runs that have ended."""
        if self._told:
            for lease in leases:
                self._told.pop(lease.token, None)

    def _draft(self, lease: Lease) -> _Draft:
        draft = self._drafts.get(lease.token)
        if draft is None:
            draft = self._drafts[lease.token] = _Draft(lease)
            self._wake()
        return draft
