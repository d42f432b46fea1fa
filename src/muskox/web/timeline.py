"""What happened to one job: from the events that the store still has, and else from the job itself.

Looks at a bounded number of the latest events, so that it costs the same
however many there are.
"""

from __future__ import annotations

from muskox import Event, Job, JobEvent, JobState, Muskox, events
from muskox.web.shapes import MomentShape

__all__ = ["timeline"]

_LOOK_BACK = 5000
_PAGE = 1000


async def timeline(ox: Muskox, job: Job) -> list[MomentShape]:
    """The facts about a job, in order; those that are forgotten are filled in from what the job says."""
    known = [_told(event) for event in await _events(ox, job)]
    kinds = {one.kind for one in known}
    moments = [MomentShape(kind="added", at=job.added_at)]
    if job.started_at is not None and "active" not in kinds:
        moments.append(MomentShape(kind="active", at=job.started_at, attempt=job.attempt))
    if job.ended_at is not None and job.state not in kinds:
        text = str(job.failure) if job.failure is not None and job.state is JobState.FAILED else ""
        moments.append(MomentShape(kind=job.state, at=job.ended_at, attempt=job.attempt, text=text))
    return sorted([*moments, *known], key=lambda one: one.at)


async def _events(ox: Muskox, job: Job) -> list[JobEvent]:
    store = await ox.store()
    [latest] = await store.events(after=-1, queue=job.queue)
    after = max(0, latest.offset - _LOOK_BACK)
    found: list[JobEvent] = []
    while after < latest.offset:
        page: list[Event] = await store.events(after=after, queue=job.queue, limit=_PAGE)
        if not page:
            break
        after = page[-1].offset
        found += [event for event in page if isinstance(event, JobEvent) and event.job_id == job.id]
    # Progress may come a thousand times; the last of each attempt says enough.
    last = {event.attempt: event for event in found if isinstance(event, events.Progress)}
    return [event for event in found if not isinstance(event, events.Progress) or last[event.attempt] is event]


def _told(event: JobEvent) -> MomentShape:
    text = ""
    match event:
        case events.Retrying(failure=failure, delay=delay):
            text = f"{failure or 'it failed'}; again in {delay:g} s"
        case events.Failed(failure=failure):
            text = str(failure or "")
        case events.Progress(value=value):
            text = f"{value:g}" if isinstance(value, int | float) else ""
        case events.Stalled(stalls=stalls):
            text = f"stall {stalls}"
        case _:
            pass
    return MomentShape(kind=event.kind, at=event.at, attempt=event.attempt or None, text=text)
