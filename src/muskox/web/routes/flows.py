"""Flows and batches: look at them, their jobs and what these wait for, and cancel, retry or close them as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from muskox import FlowKind, FlowNotFound, FlowRecord, Job, JobState
from muskox.web.desk import Desk, Given
from muskox.web.gate import Operator, Viewer
from muskox.web.problems import described
from muskox.web.routes.queues import PATIENCE, operation_view, refuse_when_busy
from muskox.web.shapes import FlowDetail, FlowJobShape, FlowPage, FlowShape, OperationShape, ParentShape
from muskox.web.views import summary

__all__ = ["router"]

router = APIRouter(tags=["flows"], responses=described(401, 403, 422, 503))

_MOST = 200
"""So many flows or jobs at most stand on a page; parents are only looked up in flows that have no more jobs."""


@router.get("/api/flows", summary="Flows and batches")
async def flows(
    desk: Given,
    by: Viewer,
    unended: Annotated[bool, Query(description="only those that have not ended, open batches too")] = False,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 50,
    after: Annotated[str | None, Query(description="the cursor of the page before", max_length=2000)] = None,
) -> FlowPage:
    """Give a page of flows and batches with their figures, latest first."""
    found = await desk.ox.flows.list(unended=unended, limit=limit, after=after)
    return FlowPage(flows=[FlowShape(**_flow(one)) for one in found.flows], cursor=found.cursor)


@router.get("/api/flows/{id:path}", summary="One flow with its jobs", responses=described(404))
async def flow(
    id: str,
    desk: Given,
    by: Viewer,
    state: Annotated[list[JobState] | None, Query(description="may be repeated; none: any")] = None,
    parents: Annotated[bool, Query(description=f"with those of each job, in flows of up to {_MOST} jobs")] = False,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 50,
    after: Annotated[str | None, Query(description="the cursor of the page before", max_length=2000)] = None,
) -> FlowDetail:
    """Give a flow or batch and a page of those of its jobs that are still there, in the order of their adding.

    With a `state` a page may be short and have a cursor all the same.
    """
    record = await _there(desk, id)
    found = await desk.ox.flows.jobs(id, state, limit=limit, after=after)
    tied = parents and record.kind is FlowKind.FLOW and record.total <= _MOST
    jobs = [
        FlowJobShape(**summary(job, desk.masks).model_dump(), parents=await _parents(desk, job) if tied else None)
        for job in found.jobs
    ]
    return FlowDetail(**_flow(record), jobs=jobs, cursor=found.cursor)


@router.post("/api/flows/{id:path}/cancel", summary="Cancel a flow", responses=described(404, 429))
async def cancel(id: str, request: Request, desk: Given, by: Operator) -> OperationShape:
    """Cancel all jobs of it that have not ended; nothing can be added to it any more."""
    return await _all(id, "cancel flow", lambda: desk.ox.flows.cancel(id), lambda one: one.unended, request, desk, by)


@router.post("/api/flows/{id:path}/retry", summary="Retry what failed in a flow", responses=described(404, 429))
async def retry(id: str, request: Request, desk: Given, by: Operator) -> OperationShape:
    """Let all jobs of it that failed or were cancelled run again, in their order."""
    return await _all(
        id, "retry flow", lambda: desk.ox.flows.retry(id), lambda one: one.failed + one.cancelled, request, desk, by
    )


@router.post("/api/flows/{id:path}/close", summary="Close a batch", responses=described(404))
async def close(id: str, request: Request, desk: Given, by: Operator) -> FlowShape:
    """Let nothing more be added to a batch whose producer is gone."""
    with desk.deed(by, request, "close flow", flow=id[:300]):
        return FlowShape(**_flow(await desk.ox.flows.close(id)))


async def _all(
    id: str, verb: str, work: Callable[[], Awaitable[int]], which: Callable[[FlowRecord], int],
    request: Request, desk: Desk, by: Operator,
) -> OperationShape:  # fmt: skip
    with desk.deed(by, request, verb, flow=id[:300]) as deed:
        record = await _there(desk, id)
        refuse_when_busy(desk)

        async def left() -> int:
            now = await desk.ox.flows.get(id)
            return 0 if now is None else which(now)

        operation = await desk.operations.begin(verb, "", which(record), work, left, patience=PATIENCE)
        deed.detail["jobs"] = await operation.done()
    return await operation_view(operation)


async def _there(desk: Desk, id: str) -> FlowRecord:
    found = await desk.ox.flows.get(id)
    if found is None:
        raise FlowNotFound(f"there is no flow or batch {id!r}; it was never added, or cleared some time after its end")
    return found


async def _parents(desk: Desk, job: Job) -> list[ParentShape]:
    return [
        ParentShape(name=one.name, queue=one.queue, id=one.id, state=one.state, on_failure=one.on_failure)
        for one in await desk.ox.flows.parents(job.queue, job.id)
    ]


def _flow(one: FlowRecord) -> dict[str, Any]:
    plain = ("id", "kind", "state", "open", "total", "completed", "failed", "cancelled", "progress", "added_at")
    return {
        **{name: getattr(one, name) for name in plain},
        "ended_at": one.ended_at,
        "completed_job": _follower(one.completed_job, added=one.completed_added),
        "settled_job": _follower(one.settled_job, added=one.settled_added),
    }


def _follower(job: tuple[str, str] | None, *, added: bool) -> dict[str, Any] | None:
    return None if job is None else {"queue": job[0], "id": job[1], "added": added}
