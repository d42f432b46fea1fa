"""Turns what the public verbs give into the shapes of the interface, secrets hidden. It asks no store."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from muskox import (
    Cron,
    Entry,
    Every,
    Explanation,
    Failure,
    Job,
    LogLine,
    MuskoxError,
    Once,
    QueueCounts,
    Scheduled,
    WorkerRecord,
)
from muskox.web.masking import Mask, Masks
from muskox.web.shapes import (
    ExplanationShape,
    FailureShape,
    JobShape,
    JobSummary,
    LedgerShape,
    LineShape,
    MomentShape,
    NameShape,
    QueueShape,
    ReasonShape,
    ScheduleDetail,
    ScheduleShape,
    WorkerShape,
)

__all__ = ["job_view", "matches", "queue_view", "schedule_detail", "schedule_view", "summary", "worker_view"]

_PREVIEW = 160
_LONGEST_PREVIEWED = 20_000
"""Data of more bytes is not read for a list, in which hundreds of jobs may stand."""


def queue_view(
    counts: QueueCounts,
    workers: Sequence[WorkerRecord],
    rates: dict[str, float],
    *,
    declared: bool,
    most_names: int = 10_000,
) -> QueueShape:
    """A queue with its figures, and those of the names that have most jobs."""
    names = heapq.nlargest(most_names, counts.names, key=lambda one: sum(one.states.values()))
    its = f"{counts.queue}/"
    return QueueShape(
        name=counts.queue,
        paused=counts.paused,
        declared=declared,
        states=counts.states,
        total=counts.total,
        held=counts.held,
        oldest_waiting=counts.oldest_waiting,
        workers=sum(any(want.queue == counts.queue for want in worker.wants) for worker in workers),
        names=[NameShape(name=one.name, states=one.states) for one in names],
        rates={name.removeprefix(its): rate for name, rate in rates.items() if name.startswith(its)},
    )


def worker_view(worker: WorkerRecord) -> WorkerShape:
    """A live worker."""
    wants: dict[str, list[str] | None] = {}
    for want in worker.wants:
        names = None if want.names is None else sorted(want.names)
        before = wants.get(want.queue, [])
        wants[want.queue] = None if names is None or before is None else sorted({*before, *names})
    return WorkerShape(
        id=worker.id,
        host=worker.host,
        pid=worker.pid,
        slots=worker.slots,
        running=worker.running,
        stopping=worker.stopping,
        age=round(worker.age, 3),
        wants=wants,
    )


# --- jobs ------------------------------------------------------------------------------


def summary(job: Job, masks: Masks) -> JobSummary:
    """A job for a list."""
    return JobSummary(**_common(job, masks.of(job)))


def job_view(
    job: Job,
    masks: Masks | None,
    *,
    lines: Sequence[LogLine],
    explanation: Explanation,
    timeline: Sequence[MomentShape],
) -> JobShape:
    """A job with all that is kept of it; `masks` None shows secrets."""
    mask = Mask(lambda _: False, (), lambda: None) if masks is None else masks.of(job)
    shown = mask.value if masks is not None else _as_it_is
    text = mask.text if masks is not None else _as_it_is
    data = shown(_decoded(job, "data"))
    result = shown(_decoded(job, "result"))
    return JobShape(
        **{**_common(job, mask), "failure": _failure(job.failure, text, whole=True)},
        releases=job.releases,
        data=data,
        data_json=_pretty(data),
        result=result,
        result_json=None if job.result_text is None else _pretty(result),
        steps=shown(_decoded(job, "steps")),
        options={name: value for name, value in msgspec.to_builtins(job.options).items() if value is not None},
        log=[LineShape(number=line.number, at=_moment(line.at_us), text=text(line.text)) for line in lines],
        explanation=ExplanationShape(
            at=explanation.at,
            reasons=[
                ReasonShape(kind=one.kind, text=text(one.text), at=one.at, jobs=one.jobs, worker=one.worker)
                for one in explanation.reasons
            ],
        ),
        timeline=[
            one.model_copy(update={"text": text(one.text), "traceback": one.traceback and text(one.traceback)})
            for one in timeline
        ],
        masked=masks is not None and data != _decoded(job, "data"),
    )


def matches(job: Job, mask: Mask, text: str) -> bool:
    """Whether a text stands in a job's id, name, data, result or failure, as these are shown."""
    wanted = text.casefold()
    failure = "" if job.failure is None else str(job.failure)
    rough = (job.id, job.name, job.data_text, job.result_text or "", failure)
    if not any(wanted in part.casefold() for part in rough):
        return False
    # As it is shown, or one could feel for a secret letter by letter.
    shown = (job.id, job.name, *(_pretty(mask.value(_decoded(job, what))) for what in ("data", "result")))
    return any(wanted in part.casefold() for part in (*shown, mask.text(failure)))


def _common(job: Job, mask: Mask) -> dict[str, Any]:
    return {
        "id": job.id,
        "queue": job.queue,
        "name": job.name,
        "state": job.state,
        "priority": job.priority,
        "attempt": job.attempt,
        "attempts": job.attempts,
        "stalls": job.stalls,
        "added_at": job.added_at,
        "due_at": job.due_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "progress": mask.value(_decoded(job, "progress")),
        "preview": _preview(job, mask),
        "worker": job.worker,
        "key": None if job.key is None else mask.text(job.key),
        "flow": job.flow,
        "failure": _failure(job.failure, mask.text, whole=False),
    }


def _decoded(job: Job, what: str) -> Any:
    """A part of a job out of its JSON; one that something else has damaged must not hide the rest of the job."""
    try:
        return getattr(job, what)
    except MuskoxError as error:
        return f"({error})"


def _preview(job: Job, mask: Mask) -> str:
    if len(job.data_text) > _LONGEST_PREVIEWED:
        return f"… ({len(job.data_text)} characters)"
    text = msgspec.json.encode(mask.value(_decoded(job, "data"))).decode()
    return text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}…"


def _failure(failure: Failure | None, text: Any, *, whole: bool) -> FailureShape | None:
    if failure is None:
        return None
    message = text(failure.message)
    return FailureShape(
        kind=failure.kind,
        type=failure.type,
        message=message if whole or len(message) <= 300 else f"{message[:300]}…",
        traceback=text(failure.traceback) if whole and failure.traceback else None,
        final=failure.final,
    )


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _as_it_is(value: Any) -> Any:
    return value


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)


# --- schedules --------------------------------------------------------------------------


def schedule_view(one: Scheduled) -> ScheduleShape:
    """A schedule for a list."""
    return ScheduleShape(**_schedule(one))


def schedule_detail(one: Scheduled, masks: Masks, ledger: Sequence[Entry], *, now: float) -> ScheduleDetail:
    """A schedule with its data, its next moments and its ledger."""
    after = datetime.fromtimestamp(now, UTC)
    upcoming = [] if one.paused or one.next_at is None else one.schedule.when.preview(10, after=after)
    until = one.schedule.ends_us
    return ScheduleDetail(
        **_schedule(one),
        data=masks.value(one.data),
        next=[at for at in upcoming if until is None or at.timestamp() * 1e6 <= until],
        ledger=[
            LedgerShape(
                moment=entry.moment, told=entry.told, job=entry.job_id, reason=entry.reason,
                missed=entry.missed, at=entry.at,
            )
            for entry in ledger
        ],
    )  # fmt: skip


def _schedule(one: Scheduled) -> dict[str, Any]:
    when = one.schedule.when
    return {
        "name": one.name,
        "queue": one.queue,
        "job": one.job,
        "owner": one.owner,
        "rule": one.explain(),
        "kind": "cron" if isinstance(when, Cron) else "every" if isinstance(when, Every) else "once",
        "expression": when.expression if isinstance(when, Cron) else None,
        "tz": when.tz if isinstance(when, Cron) else None,
        "every": when.seconds if isinstance(when, Every) else None,
        "at": _moment(when.at_us) if isinstance(when, Once) else None,
        "paused": one.paused,
        "next_at": one.next_at,
        "last_at": one.last_at,
        "last_job": one.last_job,
        "outcome": one.outcome,
        "overlap": one.schedule.overlap,
    }
