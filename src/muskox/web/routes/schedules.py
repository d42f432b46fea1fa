"""Schedules: look at them and their ledgers, add, pause, resume, run and delete them, and try an expression."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from muskox import Cron, Scheduled, ScheduleNotFound
from muskox.web.desk import Desk, Given
from muskox.web.gate import Admin, Operator, Viewer
from muskox.web.masking import restored
from muskox.web.problems import Problem, described
from muskox.web.shapes import JobSummary, ScheduleDetail, ScheduleShape
from muskox.web.views import schedule_detail, schedule_view, summary

__all__ = ["router"]

router = APIRouter(tags=["schedules"], responses=described(401, 403, 404, 422, 503))


class NewSchedule(BaseModel):
    """A schedule to be added: `cron` with an expression, `every` so many seconds, or once `at` a moment."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "nightly", "cron": "0 3 * * *", "tz": "Europe/Vienna", "queue": "files", "job": "tidy"}
        },
    )

    name: str
    queue: str
    job: str
    data: Any = None
    cron: str | None = None
    tz: str = "UTC"
    every: float | None = None
    at: datetime | None = None
    overlap: Literal["allow", "skip", "queue"] = "allow"
    priority: int | None = None
    attempts: int | None = None
    replace: StrictBool = Field(False, description="in the place of one that has this name")


class EditedSchedule(BaseModel):
    """What shall be otherwise; what is left out stays. Of `cron`, `every` and `at` at most one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"cron": "30 3 * * *"}})

    queue: str | None = None
    job: str | None = None
    data: Any = Field(None, description="masked fields that are left as they are keep their secrets")
    cron: str | None = None
    tz: str | None = None
    every: float | None = None
    at: datetime | None = None
    overlap: Literal["allow", "skip", "queue"] | None = None
    priority: int | None = None
    attempts: int | None = None


class Upcoming(BaseModel):
    """What an expression means."""

    words: str
    next: list[datetime]


@router.get("/api/schedules", summary="All schedules")
async def schedules(desk: Given, by: Viewer) -> list[ScheduleShape]:
    """Give the schedules of the store in the order of their names, a thousand at most."""
    return [schedule_view(one) for one in await desk.ox.schedules.list()]


@router.get("/api/upcoming", summary="What a cron expression means")
async def upcoming(
    expression: Annotated[str, Query(max_length=200)], desk: Given, by: Viewer, tz: Annotated[str, Query()] = "UTC"
) -> Upcoming:
    """Say an expression in words, with its next moments. Asks no store."""
    found = desk.ox.schedules.preview(expression, 5, tz=tz)
    return Upcoming(words=Cron(expression, tz).explain(), next=found)


@router.get("/api/schedules/{name:path}", summary="One schedule with its ledger")
async def show(name: str, desk: Given, by: Viewer) -> ScheduleDetail:
    """Give a schedule, its next moments, and what became of the latest hundred."""
    return await _detail(desk, name)


@router.post("/api/schedules", summary="Add a schedule", status_code=201, responses=described(409))
async def add(said: NewSchedule, request: Request, desk: Given, by: Operator) -> ScheduleShape:
    """Add a schedule, which fires whether this page is open or not."""
    kinds = [said.cron is not None, said.every is not None, said.at is not None]
    if sum(kinds) != 1:
        raise Problem(422, "invalid_request", "say one of cron, every and at")
    shared: dict[str, Any] = {
        "queue": said.queue, "job": said.job, "data": said.data, "replace": said.replace, "overlap": said.overlap,
        "priority": said.priority, "attempts": said.attempts,
    }  # fmt: skip
    rules = desk.ox.schedules
    with desk.deed(by, request, "add schedule", schedule=said.name, queue=said.queue):
        if said.cron is not None:
            added = await rules.add_cron(said.name, said.cron, tz=said.tz, **shared)
        elif said.every is not None:
            added = await rules.add_every(said.name, said.every, **shared)
        else:
            added = await rules.add_once(said.name, at=said.at, **shared)
    return schedule_view(added)


@router.patch("/api/schedules/{name:path}", summary="Change a schedule", responses=described(409))
async def edit(name: str, said: EditedSchedule, request: Request, desk: Given, by: Operator) -> ScheduleShape:
    """Change what is given; nothing fires by the old rule any more. One that is declared in code is changed there."""
    given = said.model_dump(exclude_unset=True, exclude={"cron", "data"})
    changes: Any = {name: value for name, value in given.items() if value is not None}
    if said.cron is not None:
        changes["expression"] = said.cron
    if len(changes.keys() & {"expression", "every", "at"}) > 1:
        raise Problem(422, "invalid_request", "say at most one of cron, every and at")
    with desk.deed(by, request, "edit schedule", schedule=name, changes=sorted(said.model_fields_set)):
        if "data" in said.model_fields_set:
            changes["data"] = restored(said.data, (await _there(desk, name)).data)
        return schedule_view(await desk.ox.schedules.update(name, **changes))


@router.post("/api/schedules/{name:path}/pause", summary="Pause a schedule")
async def pause(name: str, request: Request, desk: Given, by: Operator) -> ScheduleShape:
    """Have it fire no more until it is resumed."""
    with desk.deed(by, request, "pause schedule", schedule=name):
        return schedule_view(await desk.ox.schedules.pause(name))


@router.post("/api/schedules/{name:path}/resume", summary="Resume a schedule", responses=described(409))
async def resume(name: str, request: Request, desk: Given, by: Operator) -> ScheduleShape:
    """Have it go on with the moments to come."""
    with desk.deed(by, request, "resume schedule", schedule=name):
        return schedule_view(await desk.ox.schedules.resume(name))


@router.post("/api/schedules/{name:path}/run", summary="Run a schedule now", responses=described(409))
async def run(name: str, request: Request, desk: Given, by: Operator) -> JobSummary:
    """Add its job now, whatever its next moment."""
    with desk.deed(by, request, "run schedule", schedule=name) as deed:
        job = await desk.ox.schedules.run_now(name)
        if job is None:
            raise Problem(409, "overlapping", f"the last job of {name} has not ended, and its overlap forbids another")
        deed.detail["id"] = job.id
    return summary(job, desk.masks)


@router.delete("/api/schedules/{name:path}", summary="Delete a schedule", status_code=204)
async def delete(name: str, request: Request, desk: Given, by: Admin) -> Response:
    """Delete it with its ledger; its jobs stay. One that is declared in code comes back with the next worker."""
    with desk.deed(by, request, "delete schedule", schedule=name):
        if not await desk.ox.schedules.delete(name):
            raise ScheduleNotFound(f"there is no schedule {name!r}; it is gone already")
    return Response(status_code=204)


async def _there(desk: Desk, name: str) -> Scheduled:
    found = await desk.ox.schedules.get(name)
    if found is None:
        raise ScheduleNotFound(f"there is no schedule {name!r}; it was never added, or deleted")
    return found


async def _detail(desk: Desk, name: str) -> ScheduleDetail:
    found, ledger = await _there(desk, name), await desk.ox.schedules.ledger(name)
    return schedule_detail(found, desk.masks, ledger, now=desk.ox.world.now())
