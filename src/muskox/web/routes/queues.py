"""Queues: everything at a glance, one queue, and pausing, resuming and draining it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from muskox import JobState, QueueCounts, WorkerRecord
from muskox.web.desk import Desk, Given
from muskox.web.gate import Admin, Operator, Viewer
from muskox.web.problems import Problem, described
from muskox.web.shapes import Attention, OperationShape, OverviewShape, QueueShape, WorkerShape
from muskox.web.views import queue_view, worker_view

__all__ = ["glance", "router"]

router = APIRouter(tags=["queues"], responses=described(401, 403, 422, 503))
workers_router = APIRouter(tags=["workers"], responses=described(401, 403, 503))

_NAMES = 100
"""So many job names of each queue stand in what is sent each second."""
PATIENCE = 2.0
"""Seconds for which a request waits for the end of what it began."""


async def glance(desk: Desk) -> OverviewShape:
    """Everything at a glance, from figures that the store keeps up."""
    desk.hub.touch()
    counts, workers = await _all_counts(desk), await desk.ox.workers()
    rates = desk.hub.pulse.rates()
    declared = {queue.name for queue in desk.ox.queues()}
    states = {state: sum(one.states[state] for one in counts) for state in JobState}
    return OverviewShape(
        at=datetime.fromtimestamp(desk.ox.world.now(), UTC),
        store=repr(desk.ox).removeprefix("<Muskox ").removesuffix(">"),
        queues=[queue_view(one, workers, rates, declared=one.queue in declared, most_names=_NAMES) for one in counts],
        states=states,
        workers=len(workers),
        slots=sum(worker.slots for worker in workers),
        running=sum(worker.running for worker in workers),
        rates={name: rate for name, rate in rates.items() if "/" not in name},
        times=desk.hub.pulse.times(),
        attention=_attention(counts, workers),
    )


async def _all_counts(desk: Desk) -> list[QueueCounts]:
    """The figures of all queues that ever had a job, and of those that the program declares."""
    counts = {one.queue: one for one in await desk.ox.counts()}
    for queue in desk.ox.queues():
        if queue.name not in counts:
            counts[queue.name] = await queue.counts()
    return [counts[name] for name in sorted(counts)]


def _attention(counts: list[QueueCounts], workers: list[WorkerRecord]) -> list[Attention]:
    found: list[Attention] = []
    if not workers and any(one.waiting or one.active or one.delayed for one in counts):
        found.append(Attention(kind="no-worker", text="No worker is alive, and there are jobs to run."))
    for one in counts:
        if one.paused and one.waiting:
            said = f"{one.queue} is paused, and {_jobs(one.waiting, 'waits', 'wait')}."
            found.append(Attention(kind="paused", text=said, queue=one.queue))
        if one.held and workers:
            said = f"{_jobs(one.held, 'waits', 'wait')} in {one.queue} with a name that no live worker can run."
            found.append(Attention(kind="held", text=said, queue=one.queue))
        if one.failed:
            said = f"{_jobs(one.failed, 'has', 'have')} failed in {one.queue}."
            found.append(Attention(kind="failed", text=said, queue=one.queue))
    return found


def _jobs(number: int, one: str, many: str) -> str:
    return f"1 job {one}" if number == 1 else f"{number} jobs {many}"


@router.get("/api/overview", summary="Everything at a glance")
async def overview(desk: Given, by: Viewer) -> OverviewShape:
    """Give the figures of all queues, the live rates, and what wants to be looked at. Costs no scan."""
    return await glance(desk)


@router.get("/api/chart", summary="Figures over time")
async def chart(
    desk: Given, by: Viewer, span: Literal["5m", "1h", "24h"] = "5m", queue: Annotated[str | None, Query()] = None
) -> dict[str, Any]:
    """Give how many jobs were added, completed and failed in each step of a span, as this process has seen it."""
    desk.hub.touch()
    return desk.hub.pulse.chart(span, queue)


@workers_router.get("/api/workers", summary="The live workers")
async def workers(desk: Given, by: Viewer) -> list[WorkerShape]:
    """Give the workers that beat within the last 30 seconds and did not say good-bye."""
    return [worker_view(one) for one in sorted(await desk.ox.workers(), key=lambda one: (one.host, one.pid))]


@router.get("/api/queues", summary="All queues with their figures")
async def queues(desk: Given, by: Viewer) -> list[QueueShape]:
    """Give all queues that ever had a job or that the program declares."""
    return (await glance(desk)).queues


@router.get("/api/queues/{queue}", summary="One queue with its figures", responses=described(404))
async def one_queue(queue: str, desk: Given, by: Viewer) -> QueueShape:
    """Give one queue."""
    desk.hub.touch()
    counts = await (await desk.queue(queue)).counts()
    declared = queue in {one.name for one in desk.ox.queues()}
    return queue_view(counts, await desk.ox.workers(), desk.hub.pulse.rates(), declared=declared)


@router.post("/api/queues/{queue}/pause", summary="Pause a queue", responses=described(404))
async def pause(queue: str, request: Request, desk: Given, by: Operator) -> QueueShape:
    """Have no job of the queue claimed until it is resumed; running jobs go on."""
    with desk.deed(by, request, "pause", queue=queue):
        await (await desk.queue(queue)).pause()
    return await one_queue(queue, desk, by)


@router.post("/api/queues/{queue}/resume", summary="Resume a queue", responses=described(404))
async def resume(queue: str, request: Request, desk: Given, by: Operator) -> QueueShape:
    """Have jobs of the queue claimed again."""
    with desk.deed(by, request, "resume", queue=queue):
        await (await desk.queue(queue)).resume()
    return await one_queue(queue, desk, by)


class Drain(BaseModel):
    """What to drain."""

    model_config = ConfigDict(extra="forbid")

    delayed: StrictBool = False


@router.post("/api/queues/{queue}/drain", summary="Delete what waits in a queue", responses=described(404, 429))
async def drain(queue: str, request: Request, desk: Given, by: Admin, said: Drain | None = None) -> OperationShape:
    """Delete all jobs that wait, with `delayed` the delayed ones too; running and ended ones stay."""
    delayed = said is not None and said.delayed
    states = (JobState.WAITING, JobState.DELAYED) if delayed else (JobState.WAITING,)
    with desk.deed(by, request, "drain", queue=queue, delayed=delayed) as deed:
        line = await desk.queue(queue)

        async def left() -> int:
            counts = await line.counts()
            return sum(counts.states[state] for state in states)

        refuse_when_busy(desk)
        operation = await desk.operations.begin(
            "drain", queue, await left(), lambda: line.drain(delayed=delayed), left, patience=PATIENCE
        )
        deed.detail["jobs"] = await operation.done()
    return await operation_view(operation)


class Clean(BaseModel):
    """Which ended jobs to delete."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"state": ["failed"], "older_than": 604800}}
    )

    state: list[Literal["completed", "failed", "cancelled"]] = Field(["completed"], min_length=1)
    older_than: float = Field(0.0, description="seconds since their end, at least")


@router.post("/api/queues/{queue}/clean", summary="Delete ended jobs of a queue by age", responses=described(404, 429))
async def clean(queue: str, request: Request, desk: Given, by: Admin, said: Clean | None = None) -> OperationShape:
    """Delete jobs that ended in some state at least so long ago, oldest first; completed ones unless it says."""
    said = said or Clean.model_validate({})
    states = [JobState(state) for state in said.state]
    with desk.deed(by, request, "clean", queue=queue, state=said.state, older_than=said.older_than) as deed:
        line = await desk.queue(queue)

        async def left() -> int:
            counts = await line.counts()
            return sum(counts.states[state] for state in states)

        refuse_when_busy(desk)
        operation = await desk.operations.begin(
            "clean", queue, await left(), lambda: line.clean(states, older_than=said.older_than), left,
            patience=PATIENCE,
        )  # fmt: skip
        deed.detail["jobs"] = await operation.done()
    return await operation_view(operation)


def refuse_when_busy(desk: Desk) -> None:
    """Raise a problem when too much is under way already."""
    if desk.operations.busy:
        raise Problem(429, "busy", "too many changes to many jobs are under way; wait for one to end", Retry_After="5")


async def operation_view(operation: Any) -> OperationShape:
    """How far a change to many jobs is."""
    done = await operation.done()
    names = ("id", "verb", "queue", "most", "state", "reason")
    return OperationShape(done=done, **{name: getattr(operation, name) for name in names})
