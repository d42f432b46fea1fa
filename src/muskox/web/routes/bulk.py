"""Changes to many jobs of a queue: by their ids, or all of a state and name; first how many, then the change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from muskox import AppQueue, JobNotFound, JobState, WrongState
from muskox.web.access import Role
from muskox.web.desk import Given
from muskox.web.gate import Operator, Viewer
from muskox.web.operations import Work
from muskox.web.problems import Problem, described
from muskox.web.routes.queues import PATIENCE, operation_view, refuse_when_busy
from muskox.web.shapes import MovedShape, OperationShape

__all__ = ["router"]

router = APIRouter(tags=["many jobs"], responses=described(401, 403, 404, 422, 503))

_UNENDED = {JobState.WAITING, JobState.DELAYED, JobState.BLOCKED, JobState.ACTIVE}
_ALLOWED: dict[str, set[JobState]] = {
    "retry": {JobState.FAILED},
    "promote": {JobState.DELAYED},
    "cancel": _UNENDED,
    "remove": set(JobState) - {JobState.ACTIVE},
}
_MOST_IDS = 1000


class Bulk(BaseModel):
    """Which jobs, and what to do with them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"verb": "retry", "state": "failed", "name": "welcome"}}
    )

    verb: Literal["retry", "promote", "cancel", "remove"]
    ids: Annotated[list[str], Field(max_length=_MOST_IDS)] | None = Field(None, description="these jobs")
    state: JobState | None = Field(None, description="or all in this state")
    name: str | None = Field(None, description="of this name only")
    added_before: datetime | None = Field(None, description="for cancel: added before this moment only")
    most: Annotated[int, Field(ge=1, le=_MOST_IDS)] | None = Field(None, description="the first so many of them only")
    dry_run: StrictBool = Field(False, description="only say how many")


@router.post("/api/queues/{queue}/bulk", summary="Change many jobs", responses=described(429))
async def bulk(queue: str, said: Bulk, request: Request, desk: Given, by: Operator) -> MovedShape:
    """Retry, promote, cancel or remove many jobs; with `dry_run` only say how many they are.

    What takes longer than a moment goes on by itself, and is asked about as an operation.
    Removing needs the role admin.
    """
    if said.verb == "remove" and not by.role.allows(Role.ADMIN):
        raise Problem(403, "not_allowed", f"removing needs the role admin; {by.name} may only {by.role}")
    line = await desk.queue(queue)
    states = _states(said)
    matched = await _matched(line, said, states)
    exact = said.added_before is None and said.ids is None
    if said.dry_run:
        return MovedShape(matched=matched, exact=exact, operation=None)
    with desk.deed(by, request, f"{said.verb} many", queue=queue, **_detail(said)) as deed:
        refuse_when_busy(desk)

        async def left() -> int:
            return await _matched(line, said, states)

        operation = await desk.operations.begin(
            said.verb, queue, matched, _work(line, said, states), left, patience=PATIENCE
        )
        deed.detail |= {"matched": matched, "jobs": await operation.done()}
    return MovedShape(matched=matched, exact=exact, operation=await operation_view(operation))


@router.get("/api/operations", summary="The latest changes to many jobs")
async def operations(desk: Given, by: Viewer) -> list[OperationShape]:
    """Give the operations of this process, latest first."""
    return [await operation_view(one) for one in desk.operations.latest()]


@router.get("/api/operations/{id}", summary="How far a change to many jobs is")
async def operation(id: str, desk: Given, by: Viewer) -> OperationShape:
    """Give one operation."""
    found = desk.operations.find(id)
    if found is None:
        raise Problem(404, "operation_unknown", "there is no such operation, or it is forgotten")
    return await operation_view(found)


def _states(said: Bulk) -> tuple[JobState, ...]:
    allowed = _ALLOWED[said.verb]
    if said.ids is not None:
        if said.state or said.name or said.added_before or said.most:
            raise Problem(422, "invalid_request", "ids and a filter both say which jobs; give one of them")
        return ()
    if said.state is None:
        if said.verb == "remove":
            raise Problem(422, "invalid_request", "say the state of the jobs to remove")
        return tuple(sorted(allowed))
    if said.state not in allowed:
        can = ", ".join(sorted(allowed))
        raise Problem(422, "invalid_request", f"{said.verb} is not for {said.state} jobs; it is for {can}")
    if said.added_before is not None and (said.verb != "cancel" or said.most):
        raise Problem(422, "invalid_request", "added_before is for cancelling all that match")
    return (said.state,)


async def _matched(line: AppQueue, said: Bulk, states: tuple[JobState, ...]) -> int:
    """How many jobs match, from figures that are kept up; nothing is scanned."""
    if said.ids is not None:
        return len(set(said.ids))
    counts = await line.counts()
    figures = (
        counts.states
        if said.name is None
        else next((one.states for one in counts.names if one.name == said.name), dict.fromkeys(JobState, 0))
    )
    found = sum(figures.get(state, 0) for state in states)
    return found if said.most is None else min(found, said.most)


def _work(line: AppQueue, said: Bulk, states: tuple[JobState, ...]) -> Work:
    one: dict[str, Callable[[str], Awaitable[object]]] = {
        "retry": line.retry, "promote": line.promote, "cancel": line.cancel, "remove": line.remove,
    }  # fmt: skip
    every: dict[str, Work] = {
        "retry": lambda: line.retry_all(said.name),
        "promote": lambda: line.promote_all(said.name),
        "cancel": lambda: line.cancel_all(said.name, state=states, added_before=said.added_before),
        "remove": lambda: line.remove_all(states, name=said.name),
    }

    async def by_ids() -> int:
        ids = said.ids
        if ids is None:
            found = await line.find(states, name=said.name, limit=said.most or _MOST_IDS)
            ids = [job.id for job in found.jobs]
        return sum([await _moved(one[said.verb], id) for id in dict.fromkeys(ids)])

    return every[said.verb] if said.ids is None and said.most is None else by_ids


async def _moved(verb: Callable[[str], Awaitable[object]], id: str) -> bool:
    try:
        return await verb(id) is not False
    except (JobNotFound, WrongState):
        return False  # it moved on meanwhile; the count says how many did not


def _detail(said: Bulk) -> dict[str, object]:
    detail = said.model_dump(exclude={"verb", "ids", "dry_run"}, exclude_none=True, mode="json")
    return {**detail, "ids": said.ids[:20]} if said.ids is not None else detail
