"""What the interface gives, as records that are described in its OpenAPI document.

Only shapes: `views.py` fills them. Moments are RFC 3339 in UTC, durations seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from muskox import FlowKind, FlowState, JobState, OnFailure
from muskox.web.access import Role

__all__ = [
    "DeedShape", "EventShape", "ExplanationShape", "FailureShape", "FlowDetail", "FlowJobShape", "FlowPage",
    "FlowShape", "JobPage", "JobShape", "JobSummary", "LineShape", "MomentShape", "MovedShape", "NameShape",
    "OperationShape", "OverviewShape", "ParentShape", "QueueShape", "ReasonShape", "ScheduleDetail",
    "ScheduleShape", "SessionShape", "WorkerShape",
]  # fmt: skip

_ID = "01980d35-7c5f-7a3e-b1d0-6f0b9d3f4c21"


class NameShape(BaseModel):
    """How many jobs of one name are in each state."""

    name: str
    states: dict[JobState, int]


class QueueShape(BaseModel):
    """A queue and its figures, kept up by the store and never counted."""

    name: str
    paused: bool
    declared: bool = Field(description="whether the program behind this dashboard has a processor in it")
    states: dict[JobState, int]
    total: int
    held: int = Field(description="jobs that wait and whose name no live worker can run")
    oldest_waiting: float | None = Field(description="age in seconds of the job that has waited longest")
    workers: int = Field(description="live workers that take jobs from it")
    names: list[NameShape]
    rates: dict[str, float] = Field(description="jobs per second lately: completed, failed, retrying, waiting")


class WorkerShape(BaseModel):
    """A live worker, as it told of itself at its last beat."""

    id: str
    host: str
    pid: int
    slots: int
    running: int
    stopping: bool
    age: float = Field(description="seconds since its last beat")
    wants: dict[str, list[str] | None] = Field(description="queues, and the job names it can run in each; null: any")


class Attention(BaseModel):
    """Something that wants to be looked at."""

    kind: str
    text: str
    queue: str | None = None


class OverviewShape(BaseModel):
    """Everything at a glance."""

    at: datetime
    store: str = Field(description="where the jobs are kept, its password hidden")
    queues: list[QueueShape]
    states: dict[JobState, int]
    workers: int
    slots: int
    running: int
    rates: dict[str, float]
    times: dict[str, float | None]
    attention: list[Attention]


class PastTotals(BaseModel):
    """What a queue, or a job name in it, did in a span."""

    queue: str
    name: str = Field(description="empty for the whole queue")
    added: int
    completed: int
    failed: int
    retried: int
    stalled: int
    oldest: float = Field(description="seconds that a job had waited at the worst")
    times: dict[str, float | None] = Field(description="seconds: wait_p50, wait_p95, wait_p99, run_p50 …")


class PastShape(BaseModel):
    """Figures over time: one value for each step, null where nobody looked or nothing ran."""

    begin: int = Field(description="seconds since 1970 at which the first step begins")
    step: int = Field(description="seconds of a step")
    series: dict[str, list[float | None]] = Field(
        description="added, completed, failed, retried, stalled; waiting and oldest; wait_p50 … run_p99 in seconds"
    )
    totals: list[PastTotals]


class FailureShape(BaseModel):
    """Why a run failed."""

    kind: str
    type: str
    message: str
    traceback: str | None = None
    final: bool


class JobSummary(BaseModel):
    """A job as it stands in a list."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": _ID, "queue": "email", "name": "welcome", "state": "failed", "priority": 0, "attempt": 3,
                "attempts": 3, "stalls": 0, "added_at": "2026-11-27T18:00:00Z", "due_at": None,
                "started_at": "2026-11-27T18:00:09Z", "ended_at": "2026-11-27T18:00:09.2Z", "progress": None,
                "preview": '{"to":"ada@example.org"}', "worker": None, "key": "example.org", "flow": None, "failure": {
                    "kind": "error", "type": "ConnectionRefusedError", "message": "no answer", "final": False},
            }
        }
    )  # fmt: skip

    id: str
    queue: str
    name: str
    state: JobState
    priority: int
    attempt: int = Field(description="attempts so far, the running one included")
    attempts: int | None = Field(description="how many are allowed; null: as its processor says")
    stalls: int
    added_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: Any
    preview: str = Field(description="the beginning of the data, secrets hidden")
    worker: str | None
    key: str | None = Field(description="groups jobs for limits and turns")
    flow: str | None = Field(description="the id of the flow that it belongs to")
    failure: FailureShape | None


class LineShape(BaseModel):
    """A line of a job's log."""

    number: int
    at: datetime
    text: str


class ReasonShape(BaseModel):
    """One reason why a job is where it is."""

    kind: str
    text: str
    at: datetime | None
    jobs: int
    worker: str | None


class ExplanationShape(BaseModel):
    """Why a job does not run and when it will, or what became of it."""

    at: datetime
    reasons: list[ReasonShape]


class MomentShape(BaseModel):
    """One fact of a job's life."""

    kind: str
    at: datetime
    attempt: int | None = None
    text: str = ""
    traceback: str | None = Field(default=None, description="of an attempt that failed")


class JobShape(JobSummary):
    """A job with all that is kept of it."""

    model_config = ConfigDict(json_schema_extra={})

    releases: int
    data: Any
    data_json: str = Field(description="the data as JSON text, numbers to the last digit")
    result: Any
    result_json: str | None
    steps: dict[str, Any]
    options: dict[str, Any]
    log: list[LineShape]
    explanation: ExplanationShape
    timeline: list[MomentShape] = Field(description="what happened to it, as far as it is still known")
    masked: bool = Field(description="whether something in it is hidden")


class JobPage(BaseModel):
    """A page of jobs and the cursor of the next; null after the last."""

    jobs: list[JobSummary]
    cursor: str | None
    looked_at: int = Field(description="jobs that were read for it; with `text` more than were found")


class MovedShape(BaseModel):
    """What a change to many jobs would do, or has done."""

    matched: int
    exact: bool = Field(description="false: so many at most")
    operation: OperationShape | None


class OperationShape(BaseModel):
    """A change to many jobs: `running`, `done`, `failed` or `cancelled`."""

    id: str
    verb: str
    queue: str
    most: int
    done: int
    state: str
    reason: str


class ScheduleShape(BaseModel):
    """A schedule as it stands."""

    name: str
    queue: str
    job: str
    owner: str
    rule: str = Field(description="when it fires, in words")
    kind: str
    expression: str | None
    tz: str | None
    every: float | None = Field(description="seconds, of a schedule that fires each so many")
    at: datetime | None = Field(description="the moment of one that fires once")
    paused: bool
    next_at: datetime | None
    last_at: datetime | None
    last_job: str | None
    outcome: JobState | None
    overlap: str


class LedgerShape(BaseModel):
    """What became of a moment."""

    moment: datetime
    told: str
    job: str | None
    reason: str
    missed: int
    at: datetime


class ScheduleDetail(ScheduleShape):
    """A schedule with its data, its next moments and its ledger."""

    data: Any
    next: list[datetime]
    ledger: list[LedgerShape]


class FlowShape(BaseModel):
    """A flow or batch as a whole."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "order-17", "kind": "flow", "state": "running", "open": False, "total": 4, "completed": 2,
                "failed": 0, "cancelled": 0, "progress": 0.5, "added_at": "2026-11-27T18:00:00Z", "ended_at": None,
                "completed_job": None, "settled_job": {"queue": "email", "id": "order-17-told", "added": False}},
        }
    )  # fmt: skip

    id: str
    kind: FlowKind
    state: FlowState
    open: bool = Field(description="whether jobs can still be added")
    total: int
    completed: int
    failed: int
    cancelled: int
    progress: float = Field(description="the share of its jobs that have ended, from 0 to 1")
    added_at: datetime
    ended_at: datetime | None
    completed_job: FollowerShape | None = Field(description="the job that follows when all have been completed")
    settled_job: FollowerShape | None = Field(description="the job that follows when all have ended")


class FollowerShape(BaseModel):
    """A job that follows a flow, and whether it has been added."""

    queue: str
    id: str
    added: bool


class FlowPage(BaseModel):
    """A page of flows, latest first, and the cursor of the next; null after the last."""

    flows: list[FlowShape]
    cursor: str | None


class ParentShape(BaseModel):
    """A job for which another waits, under the name by which that knows it."""

    name: str
    queue: str
    id: str
    state: JobState
    on_failure: OnFailure


class FlowJobShape(JobSummary):
    """A job of a flow."""

    model_config = ConfigDict(json_schema_extra={})

    parents: list[ParentShape] | None = Field(description="null where they were not asked for, or are too many")


class FlowDetail(FlowShape):
    """A flow with a page of those of its jobs that are still there, in the order in which they were added."""

    model_config = ConfigDict(json_schema_extra={})

    jobs: list[FlowJobShape]
    cursor: str | None


class EventShape(BaseModel):
    """An event: a fact, told after it was stored."""

    kind: str
    offset: int
    queue: str
    name: str
    job: str
    text: str
    at: float = Field(description="seconds since 1970")


class DeedShape(BaseModel):
    """One change that somebody asked for."""

    at: datetime
    who: str
    role: str
    means: str
    address: str
    verb: str
    queue: str
    job: str
    schedule: str
    detail: dict[str, Any]
    outcome: str


class SessionShape(BaseModel):
    """Who asks, and what the page may offer."""

    name: str | None
    role: Role | None
    means: str | None
    sign_in: bool = Field(description="whether there are passwords to sign in with")
    read_only: bool
    title: str


MovedShape.model_rebuild()
FlowShape.model_rebuild()
