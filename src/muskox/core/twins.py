"""Jobs that share a dedup key in one add, and what can be said of them before a store is asked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from muskox.core.dedup import Dedup
from muskox.core.errors import Duplicate
from muskox.core.job import NO_OPTIONS, Job, JobState, NewJob, Options

__all__ = ["are_any", "are_timed", "fold", "gone", "is_awaited"]


def are_any(jobs: Sequence[NewJob]) -> bool:
    """Whether one of the jobs has a key."""
    return any(job.options is not NO_OPTIONS and job.options.dedup is not None for job in jobs)


def are_timed(jobs: Sequence[NewJob]) -> bool:
    """Whether one of the jobs has to be begun in time."""
    return any(job.options is not NO_OPTIONS and job.options.expires_in is not None for job in jobs)


def is_awaited(options: Options) -> bool:
    """Whether the end of a job with these options is to be looked at, since another may be remembered until then."""
    return options.dedup is not None and options.dedup.until == "ended" and options.dedup.window is None


def gone(new: NewJob, id: str) -> Job:
    """What a new job is answered with when the job that has its key is no longer there: no more than its id is known.

    It has ended and been cleared within its window; the rest is that of the new one.
    """
    return Job(id, new.queue, new.name, JobState.COMPLETED, new.priority, new.data, options=new.options)


def fold(jobs: Sequence[NewJob]) -> tuple[list[NewJob], list[int]]:
    """Put jobs of one add that share a key into one; gives the jobs that are left, and for each given one its place.

    What the later one says counts as it would when it were added a moment after the first. Raises `Duplicate` where
    that would be refused.
    """
    left: list[NewJob] = []
    places: list[int] = []
    by_key: dict[tuple[str, str], int] = {}
    for job in jobs:
        rule = job.options.dedup
        place = len(left) if rule is None else by_key.setdefault((job.queue, rule.key), len(left))
        places.append(place)
        if place == len(left):
            left.append(job)
        elif rule is not None and job.id != left[place].id:
            left[place] = _after(left[place], job, rule)
    return left, places


def _after(first: NewJob, job: NewJob, rule: Dedup) -> NewJob:
    if rule.then == "reject":
        raise Duplicate(job.queue, rule.key, first.id)
    if rule.then == "existing":
        return first
    before = first.options.dedup
    options = job.options
    if before is not None and before.then == "keep-last":  # it will run, whatever the later one says
        options = msgspec.structs.replace(options, dedup=before)
    return msgspec.structs.replace(job, id=first.id, options=options)
