"""Short words for looking at a store: one job, its state, its events, everything there is."""

from __future__ import annotations

from typing import Any

import msgspec

from muskox.core.events import Event, JobEvent
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import Job, JobState
from muskox.store.protocol import LogLine, QueueCounts, Selection, Store

BROKEN = Failure(FailureKind.ERROR, "ValueError", "no such file")


async def one(store: Store, id: str, queue: str = "files") -> Job:
    """The job, which must be there."""
    [job] = await store.get(queue, [id])
    assert job is not None, f"{id} is not there"
    return job


def ageless(*jobs: Job) -> list[Job]:
    """Jobs of a claim without since when they had waited, which is told of some of them, and once."""
    return [msgspec.structs.replace(job, arrival_us=None) for job in jobs]


async def state(store: Store, id: str, queue: str = "files") -> JobState:
    return (await one(store, id, queue)).state


async def figures(store: Store, queue: str = "files") -> dict[str, int]:
    """The states that have jobs, with how many."""
    [counts] = await store.counts([queue])
    return {str(state): number for state, number in counts.states.items() if number}


async def latest(store: Store) -> int:
    """The offset of the last event."""
    [trimmed] = await store.events(after=-1)
    return trimmed.offset


async def events(store: Store, *, after: int = 0, queue: str | None = None) -> list[Event]:
    """All events after an offset."""
    found: list[Event] = []
    while page := await store.events(after=after, queue=queue):
        found += page
        after = page[-1].offset
    return found


async def kinds(store: Store, id: str | None = None, *, after: int = 0) -> list[str]:
    """The kinds of events in order, of one job or of all."""
    return [
        event.kind
        for event in await events(store, after=after)
        if id is None or (isinstance(event, JobEvent) and event.job_id == id)
    ]


async def everything(store: Store, queue: str = "files") -> dict[str, Any]:
    """All that a caller can see of a queue, to be compared before and after."""
    jobs: list[Job] = []
    lines: list[LogLine] = []
    found = await store.find(Selection(queue))
    while True:
        jobs += found.jobs
        if found.cursor is None:
            break
        found = await store.find(Selection(queue), after=found.cursor)
    for job in jobs:
        lines += await store.logs(queue, job.id)
    counts: list[QueueCounts] = await store.counts([queue])
    # Where the record lies is the store's own affair: it may move with every write.
    jobs = [msgspec.structs.replace(job, lease=job.lease and msgspec.structs.replace(job.lease, row=0)) for job in jobs]
    return {"jobs": jobs, "lines": lines, "counts": counts, "events": await events(store)}
