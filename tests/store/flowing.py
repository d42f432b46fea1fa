"""Short words for flows: jobs with parents, adding them, running and ending them by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from muskox.core.failure import Failure
from muskox.core.flows import FlowJob, FlowKind, FlowRecord, NewFlow, OnFailure, Wait
from muskox.core.job import Job, NewJob, Options
from muskox.core.life import Complete, Fail
from muskox.store.protocol import Store, Want
from tests.store.reading import BROKEN


def node(
    id: str,
    after: Iterable[str | Wait] = (),
    *,
    queue: str = "files",
    name: str = "resize",
    on_failure: str = "fail",
    **fields: Any,
) -> FlowJob:
    """A job of a flow; its parents by their ids where they are in `files`, and known by these."""
    options = Options(**{key: fields.pop(key) for key in list(fields) if key in Options.__struct_fields__})
    waits = [one if isinstance(one, Wait) else Wait("files", one, one, OnFailure(on_failure)) for one in after]
    return FlowJob(NewJob(id, queue, name, options=options, **fields), tuple(waits))


async def flow(store: Store, *jobs: FlowJob, id: str = "flow", **fields: Any) -> list[Job]:
    """Add a whole flow and give its jobs as they were stored."""
    return [added.job for added in await store.grow(NewFlow(id, **fields), jobs)]


async def fill(store: Store, ids: Iterable[str], *, id: str = "batch", more: bool = True, **fields: Any) -> list[Job]:
    """Add jobs to a batch, which stays open when there will be `more`."""
    jobs = [FlowJob(NewJob(one, "files", "mail")) for one in ids]
    new = NewFlow(id, FlowKind.BATCH, open=more, **fields)
    return [added.job for added in await store.grow(new, jobs)]


async def runs(store: Store, limit: int = 100, queues: Sequence[str] = ("files",), lease: float = 30) -> dict[str, Job]:
    """Claim what there is, by id."""
    claimed = await store.claim([Want(queue) for queue in queues], limit=limit, worker="worker-a", lease=lease)
    return {job.id: job for job in claimed}


async def complete(store: Store, *jobs: Job, result: str | None = None, keep: float | None = None) -> None:
    assert await store.settle([Complete(job.lease, result, None, keep) for job in jobs]) == []


async def fail(store: Store, *jobs: Job, failure: Failure = BROKEN, keep: float | None = None) -> None:
    assert await store.settle([Fail(job.lease, failure, keep) for job in jobs]) == []


async def run_all(store: Store, queues: Sequence[str] = ("files",)) -> list[str]:
    """Run and complete whatever waits until nothing does; gives the ids in the order of the claims."""
    order: list[str] = []
    while claimed := await runs(store, queues=queues):
        order += claimed
        await complete(store, *claimed.values())
    return order


async def record(store: Store, id: str = "flow") -> FlowRecord:
    """The flow, which must be there."""
    found = await store.flows([id])
    assert [one.id for one in found.flows] == [id], f"flow {id} is not there"
    return found.flows[0]


async def tally(store: Store, id: str = "flow") -> tuple[int, int, int, int]:
    """Total, completed, failed and cancelled of a flow."""
    found = await record(store, id)
    return found.total, found.completed, found.failed, found.cancelled
