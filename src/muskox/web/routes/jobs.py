"""Jobs one by one: find, look, add, retry, promote, cancel, run again, change, remove."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from muskox import AppQueue, Exponential, Fixed, Job, JobNotFound, JobState
from muskox.web.access import Role
from muskox.web.desk import Desk, Given
from muskox.web.gate import Admin, Operator, Viewer
from muskox.web.masking import restored
from muskox.web.problems import Problem, described
from muskox.web.shapes import JobPage, JobShape, JobSummary
from muskox.web.timeline import timeline
from muskox.web.views import job_view, matches, summary

__all__ = ["router"]

router = APIRouter(tags=["jobs"], responses=described(401, 403, 404, 422, 503))

_MOST = 200
_LOOK_AT = 2000
"""So many jobs are read in the search of a text; then the page ends, and its cursor goes on."""
_STEP = 25
_MOST_TEXT = 8_000_000
"""And so many characters of data: then the page of a search ends, too."""


class EditedData(BaseModel):
    """Data to put in the place of what is there; masked fields that are left as they are keep their secrets."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"data": {"to": "ada@example.org"}}})

    data: Any = None


class BackoffShape(BaseModel):
    """How long to wait before the next attempt: always the same, or longer each time (factor above 1)."""

    seconds: float = Field(ge=0)
    factor: float = Field(1.0, ge=1)


class NewJobShape(BaseModel):
    """A job to be added; what is left out follows the processor's declaration."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "welcome", "data": {"to": "ada@example.org"}, "priority": 10}},
    )

    name: str
    data: Any = None
    id: str | None = Field(None, description="a known id adds nothing and gives the job that is there")
    priority: int | None = None
    delay: float = Field(0.0, description="seconds from now")
    at: datetime | None = Field(None, description="when it is due, in place of a delay")
    attempts: int | None = None
    backoff: BackoffShape | None = None
    timeout: float | None = None
    keep_for: float | None = None
    expires_in: float | None = None
    key: str | None = Field(None, description="groups jobs for limits and turns")


# --- look ------------------------------------------------------------------------------


@router.get("/api/queues/{queue}/jobs", summary="Find jobs of a queue")
async def find(
    queue: str,
    desk: Given,
    by: Viewer,
    state: Annotated[list[JobState] | None, Query(description="may be repeated; none: any")] = None,
    name: str | None = None,
    text: Annotated[str | None, Query(max_length=200, description="stands in id, data, result or failure")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 50,
    after: Annotated[str | None, Query(description="the cursor of the page before", max_length=2000)] = None,
) -> JobPage:
    """Give a page of jobs, state by state, in the order in which they run or latest first.

    With `text` at most some thousand jobs are read for a page, which may then be short or empty; its cursor goes on.
    """
    line = await desk.queue(queue)
    if not text:
        found = await line.find(state, name=name, limit=limit, after=after)
        jobs = [summary(job, desk.masks) for job in found.jobs]
        return JobPage(jobs=jobs, cursor=found.cursor, looked_at=len(jobs))
    hits: list[JobSummary] = []
    looked, size, cursor = 0, 0, after
    # In small steps, and no further one that could find more than was asked for: the cursor must lose none.
    step = min(limit, _STEP)
    while looked < _LOOK_AT and size < _MOST_TEXT and len(hits) + step <= limit:
        found = await line.find(state, name=name, limit=step, after=cursor)
        hits += [summary(job, desk.masks) for job in found.jobs if matches(job, desk.masks.of(job), text)]
        looked += len(found.jobs)
        size += sum(len(job.data_text) + len(job.result_text or "") for job in found.jobs)
        cursor = found.cursor
        if cursor is None:
            break
    return JobPage(jobs=hits, cursor=cursor, looked_at=looked)


@router.get("/api/search", summary="Find a job by its id, in whichever queue")
async def search(id: Annotated[str, Query(max_length=255)], desk: Given, by: Viewer) -> list[JobSummary]:
    """Give the jobs with that id; each queue may have one."""
    found = [await desk.ox.queue(counts.queue).get(id) for counts in await desk.ox.counts()]
    return [summary(job, desk.masks) for job in found if job is not None]


@router.get("/api/queues/{queue}/jobs/{id:path}", summary="One job with all that is kept of it")
async def show(
    queue: str,
    id: str,
    request: Request,
    desk: Given,
    by: Viewer,
    reveal: Annotated[bool, Query(description="show secrets; needs the role admin, and is recorded")] = False,
) -> JobShape:
    """Give a job with data, result, log, its latest failure, what happened to it, and why it is where it is."""
    if not reveal:
        return await _shown(desk, queue, id)
    if not by.role.allows(Role.ADMIN):
        raise Problem(403, "not_allowed", f"seeing secrets needs the role admin; {by.name} may only {by.role}")
    with desk.deed(by, request, "reveal", queue=queue, job=id):
        return await _shown(desk, queue, id, reveal=True)


async def _shown(desk: Desk, queue: str, id: str, *, reveal: bool = False) -> JobShape:
    line = await desk.queue(queue)
    job = await _there(line, id)
    explanation = await line.explain(id)
    return job_view(
        explanation.job,
        None if reveal else desk.masks,
        lines=await line.logs(id),
        explanation=explanation,
        timeline=await timeline(desk.ox, job),
    )


async def _there(line: AppQueue, id: str) -> Job:
    job = await line.get(id)
    if job is None:
        raise JobNotFound(f"queue {line.name!r} has no job {id!r}; it was never added, or cleared after its time")
    return job


# --- change ----------------------------------------------------------------------------


@router.post("/api/queues/{queue}/jobs", summary="Add a job", status_code=201)
async def add(queue: str, said: NewJobShape, request: Request, desk: Given, by: Operator) -> JobSummary:
    """Store a job and give it, waiting or delayed. The queue need not be there before."""
    options = said.model_dump(exclude={"name", "data", "backoff"}, exclude_none=True, exclude_defaults=True)
    if said.backoff is not None:
        kind = said.backoff
        options["backoff"] = Fixed(kind.seconds) if kind.factor == 1 else Exponential(kind.seconds, factor=kind.factor)
    with desk.deed(by, request, "add", queue=queue, name=said.name) as deed:
        job = await desk.ox.queue(queue).add(said.name, said.data, **options)
        deed.detail["id"] = job.id
    return summary(job, desk.masks)


@router.post("/api/queues/{queue}/jobs/{id:path}/retry", summary="Run a failed job again", responses=described(409))
async def retry(
    queue: str, id: str, request: Request, desk: Given, by: Operator, said: EditedData | None = None
) -> JobSummary:
    """Grant a failed or cancelled job one more attempt; with `data` in the body, with that data."""
    edited = said is not None and "data" in said.model_fields_set
    with desk.deed(by, request, "retry", queue=queue, job=id, edited=edited or None):
        line = await desk.queue(queue)
        if edited and said is not None:
            job = await _there(line, id)
            if job.state is not JobState.FAILED:
                raise Problem(409, "wrong_state", f"job {id} is {job.state}; only a failed one is run again changed")
            await line.update(id, restored(said.data, job.data))
        return summary(await line.retry(id), desk.masks)


@router.post("/api/queues/{queue}/jobs/{id:path}/promote", summary="Run a delayed job now", responses=described(409))
async def promote(queue: str, id: str, request: Request, desk: Given, by: Operator) -> JobSummary:
    """Let a delayed job wait now, whatever its due moment."""
    with desk.deed(by, request, "promote", queue=queue, job=id):
        return summary(await (await desk.queue(queue)).promote(id), desk.masks)


@router.post("/api/queues/{queue}/jobs/{id:path}/cancel", summary="Cancel a job", responses=described(409))
async def cancel(queue: str, id: str, request: Request, desk: Given, by: Operator) -> JobSummary:
    """End a job that has not ended; a run is told to stop."""
    with desk.deed(by, request, "cancel", queue=queue, job=id):
        return summary(await (await desk.queue(queue)).cancel(id), desk.masks)


@router.post("/api/queues/{queue}/jobs/{id:path}/again", summary="Add a job like this one", status_code=201)
async def again(
    queue: str, id: str, request: Request, desk: Given, by: Operator, said: EditedData | None = None
) -> JobSummary:
    """Add a new job with the name, options and data of this one, or with the data of the body."""
    with desk.deed(by, request, "again", queue=queue, job=id) as deed:
        line = await desk.queue(queue)
        job = await _there(line, id)
        edited = said is not None and "data" in said.model_fields_set
        data = restored(said.data, job.data) if edited and said is not None else job.data
        of = job.options
        added = await line.add(
            job.name, data, priority=job.priority, attempts=of.attempts, backoff=of.backoff, timeout=of.timeout,
            max_stalls=of.max_stalls, keep_for=of.keep_for, expires_in=of.expires_in, key=job.key,
        )  # fmt: skip
        deed.detail["id"] = added.id
    return summary(added, desk.masks)


@router.patch("/api/queues/{queue}/jobs/{id:path}", summary="Change the data of a job", responses=described(409))
async def update(queue: str, id: str, said: EditedData, request: Request, desk: Given, by: Operator) -> JobSummary:
    """Replace the data of a job that has not been completed or cancelled."""
    with desk.deed(by, request, "update", queue=queue, job=id):
        line = await desk.queue(queue)
        job = await _there(line, id)
        return summary(await line.update(id, restored(said.data, job.data)), desk.masks)


@router.delete("/api/queues/{queue}/jobs/{id:path}", summary="Delete a job", status_code=204)
async def remove(queue: str, id: str, request: Request, desk: Given, by: Admin) -> Response:
    """Delete a job with its log, in whatever state."""
    with desk.deed(by, request, "remove", queue=queue, job=id):
        if not await (await desk.queue(queue)).remove(id):
            raise JobNotFound(f"queue {queue!r} has no job {id!r}; it is gone already")
    return Response(status_code=204)
