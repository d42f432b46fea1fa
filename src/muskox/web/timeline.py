"""What happened to one job: from the events that the store still has, and else from the job itself.

Looks at a bounded number of events around the moments that the job knows of,
so that it costs the same however many there are.
"""

from __future__ import annotations

from typing import Any

from muskox import Event, Job, JobEvent, JobState, Muskox, events
from muskox.web.shapes import MomentShape

__all__ = ["timeline"]

_PAGE = 1000
_PAGES = 3
_MOST_PROBES = 14
_SLACK_US = 50_000
"""Moments of a job and of its events may differ by so much."""


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
    """The events about a job around the moments that it knows of: its adding, its last start and its end."""
    log = _Log(await ox.store(), job.queue)
    found: dict[int, JobEvent] = {}
    read_until = -1
    for at_us, pages in ((job.added_us, _PAGES), (job.started_us, 2), (job.ended_us, 1)):
        if at_us is None:
            continue
        after = max(read_until, await log.before(at_us - _SLACK_US))
        for _ in range(pages):
            page = await log.read(after)
            if not page:
                break
            after = read_until = page[-1].offset
            found |= {one.offset: one for one in page if isinstance(one, JobEvent) and one.job_id == job.id}
            if job.ended_us is not None and page[-1].at_us > job.ended_us + _SLACK_US:
                break
    # Progress may come a thousand times; the last of each attempt says enough.
    last = {event.attempt: event for event in found.values() if isinstance(event, events.Progress)}
    return [one for one in found.values() if not isinstance(one, events.Progress) or last[one.attempt] is one]


class _Log:
    """The events of a queue by the time at which they were told."""

    def __init__(self, store: Any, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._known: list[tuple[int, int]] = []
        """Offsets whose moments were read, in order: the first, the latest, and those between that were asked for."""

    async def before(self, at_us: int) -> int:
        """An offset before all events that are told from a moment on, found by few questions."""
        if not self._known:
            self._known = await self._begin()
        low = 0
        for turn in range(_MOST_PROBES):
            low, low_us = max((one for one in self._known if one[1] < at_us), default=self._known[0])
            high, high_us = min((one for one in self._known if one[1] >= at_us), default=self._known[-1])
            if high - low <= _PAGE:
                break
            # Where it would be if events came evenly, a little before; in every other turn the middle.
            share = (at_us - low_us) / max(1, high_us - low_us) if turn % 2 == 0 else 0.5
            middle = low + max(1, min(high - low - 1, int((high - low) * share) - _PAGE // 4))
            found = await self._store.events(after=middle, limit=1)
            if not found or isinstance(found[0], events.Trimmed):
                break
            self._known = sorted({*self._known, (middle, found[0].at_us)})
        return low

    async def read(self, after: int) -> list[Event]:
        """A page of events, without the note that older ones are gone."""
        found: list[Event] = await self._store.events(after=after, queue=self._queue, limit=_PAGE)
        return [one for one in found if not isinstance(one, events.Trimmed)]

    async def _begin(self) -> list[tuple[int, int]]:
        [latest] = await self._store.events(after=-1)
        first = await self._store.events(after=0, limit=2)
        gone = first[0].offset if first and isinstance(first[0], events.Trimmed) else 0
        return [(gone, first[-1].at_us if first else 0), (latest.offset, latest.at_us + 1)]


def _told(event: JobEvent) -> MomentShape:
    text, traceback = "", None
    match event:
        case events.Retrying(failure=failure, delay=delay):
            text = f"{failure or 'it failed'}; again in {delay:g} s"
            traceback = failure.traceback if failure is not None and failure.traceback else None
        case events.Failed(failure=failure):
            text = str(failure or "")
        case events.Progress(value=value):
            text = f"{value:g}" if isinstance(value, int | float) else ""
        case events.Stalled(stalls=stalls):
            text = f"stall {stalls}"
        case _:
            pass
    return MomentShape(kind=event.kind, at=event.at, attempt=event.attempt or None, text=text, traceback=traceback)
