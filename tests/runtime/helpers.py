"""Short words for what every test of the runtime does: wait for a fact, for an end, for an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from muskox import Job, Muskox, Queue, ResultUnavailable
from muskox.store.protocol import Store

LIMIT = 30.0


async def until(fact: Callable[[], object], limit: float = LIMIT) -> None:
    """Return once the fact is there."""
    async with asyncio.timeout(limit):
        while not fact():  # noqa: ASYNC110 - facts of other threads and stores set no event
            await asyncio.sleep(0.002)


async def ended(queue: Queue, job: Job | str, limit: float = LIMIT) -> Job:
    """Wait for a job's end and give it as it is then."""
    id = job if isinstance(job, str) else job.id
    async with asyncio.timeout(limit):
        try:
            await queue.result(id)
        except ResultUnavailable:
            pass
    found = await queue.get(id)
    assert found is not None
    return found


async def reached(queue: Queue, job: Job | str, fact: Callable[[Job], object], limit: float = LIMIT) -> Job:
    """Wait until what is stored of a job fits, and give it."""
    id = job if isinstance(job, str) else job.id
    async with asyncio.timeout(limit):
        while (found := await queue.get(id)) is None or not fact(found):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)
    return found


def on_store(store: Store) -> Muskox:
    """An app whose jobs are in this very store object."""
    ox = Muskox("sqlite://:memory:")
    ox._stores[None] = store
    return ox


async def clean(ox: Muskox) -> bool:
    """Whether the store's own audit has nothing to say."""
    return await ox.audit() == []
