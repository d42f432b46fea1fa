"""Short words for schedules in the tests: one to put, one that is there, a firing of its due moment."""

from __future__ import annotations

from typing import Any

from muskox.core.job import NewJob
from muskox.core.kept import Entry, Kept
from muskox.core.schedule import Every, Overlap, Schedule, Told
from muskox.store.protocol import Change, Firing, Store

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
"""The moment at which a `FakeWorld` begins."""


def schedule(name: str = "tick", *, queue: str = "files", overlap: Overlap = Overlap.ALLOW, **fields: Any) -> Schedule:
    """One that adds a job every ten seconds."""
    return Schedule(name, queue, "resize", fields.pop("when", Every(10)), '{"a":1}', overlap=overlap, **fields)


def kept(name: str = "tick", *, next_us: int | None = START, paused: bool = False, **fields: Any) -> Kept:
    """One as it is first put, due now."""
    return Kept(schedule(name, **fields), next_us=next_us, paused=paused)


async def put(store: Store, *new: Kept) -> list[Kept]:
    """Put schedules that are not there yet, and give them as they are kept."""
    names = [one.schedule.name for one in new]
    assert await store.put_schedules([Change(one.schedule.name, 0, one) for one in new]) == [True] * len(new)
    found = {one.schedule.name: one for one in (await store.schedules(names, limit=len(names))).kept}
    return [found[name] for name in names]


async def read(store: Store, name: str = "tick") -> Kept:
    """The schedule, which must be there."""
    [found] = (await store.schedules([name])).kept
    return found


def firing(of: Kept, *moments: int, step: int = 10 * SECOND, delay: float = 0.0, told: Told = Told.FIRED) -> Firing:
    """Use up the due moment, or those that are given, each with a job; the next is one step after the last."""
    used = moments or (of.next_us or 0,)
    ids = [of.schedule.job_id(of.generation, moment) for moment in used]
    jobs = [NewJob(id, of.schedule.queue, of.schedule.job, of.schedule.data, delay=delay) for id in ids]
    entries = [Entry(moment, told, id) for moment, id in zip(used, ids, strict=True)]
    return Firing(of.schedule.name, of.version, used[-1] + step, used[-1], tuple(jobs), tuple(entries))
