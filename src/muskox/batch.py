"""A batch as its producer sees it: open it, add jobs piece by piece, close it.

Each piece is a step of its own, so neither memory nor transactions grow with the batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from itertools import islice
from types import TracebackType
from typing import Any, Self

from muskox.core.errors import FlowNotFound, OptionError
from muskox.core.flows import FlowJob, FlowKind, FlowRecord, NewFlow
from muskox.core.job import Job, NewJob
from muskox.store.protocol import Store

__all__ = ["Batch", "new_batch"]

PIECE = 1000
"""Jobs that are added in one step."""


class Batch:
    """Many jobs that end together; made by `Muskox.batch`.

    `async with` opens it and closes it at the end, or leaves it open where an exception ends the block: then the
    producer can begin anew with the same ids, and nothing that was added is added twice.
    """

    def __init__(self, new: NewFlow, open_store: Callable[[], Awaitable[Store]]) -> None:
        self._new = new
        self._open = open_store

    def __repr__(self) -> str:
        return f"<Batch {self.id}>"

    @property
    def id(self) -> str:
        return self._new.id

    async def open(self) -> None:
        """Make the batch; one that is there already goes on. `async with` does it."""
        await (await self._open()).grow(self._new, [])

    async def add(self, job: NewJob) -> Job:
        """Add one job, made by a queue's or processor's `new`; raises `FlowClosed` when the batch is closed."""
        store = await self._open()
        [added] = await store.grow(self._new, [FlowJob(_checked(job))])
        return added.job

    async def add_many(self, jobs: Iterable[NewJob] | AsyncIterable[NewJob]) -> int:
        """Add any number of jobs of any queues, made by `new`, a thousand in a step; returns how many were new.

        Raises `FlowClosed` when the batch is closed; what was added before stays.
        """
        store = await self._open()
        added = 0
        if isinstance(jobs, AsyncIterable):
            piece: list[FlowJob] = []
            async for job in jobs:
                piece.append(FlowJob(_checked(job)))
                if len(piece) == PIECE:
                    added += await self._add(store, piece)
                    piece = []
            return added + await self._add(store, piece)
        left = iter(jobs)
        while piece := [FlowJob(_checked(job)) for job in islice(left, PIECE)]:
            added += await self._add(store, piece)
        return added

    async def _add(self, store: Store, piece: list[FlowJob]) -> int:
        return sum(one.created for one in await store.grow(self._new, piece)) if piece else 0

    async def close(self) -> FlowRecord:
        """Say that no more will come; what follows it is added once all jobs have ended. `async with` does it."""
        found = await (await self._open()).close_flow(self.id)
        if found is None:
            raise FlowNotFound(f"there is no batch {self.id!r} to close; open it first")
        return found

    async def look(self) -> FlowRecord | None:
        """The batch as it is now."""
        return next(iter((await (await self._open()).flows([self.id])).flows), None)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()


def new_batch(id: str, completed: Any, settled: Any) -> NewFlow:
    """What is asked for with a batch, checked."""
    for one in (completed, settled):
        if one is not None and not isinstance(one, NewJob):
            raise OptionError(f"what follows a batch is a job made by new(), not {type(one).__name__}")
    return NewFlow(id, FlowKind.BATCH, open=True, completed=completed, settled=settled)


def _checked(job: Any) -> NewJob:
    if not isinstance(job, NewJob):
        raise OptionError(f"a batch takes jobs that were made by a queue's new(), not {type(job).__name__}")
    return job
