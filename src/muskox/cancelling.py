"""Cancels many jobs by what they are: page by page, and again until none is left.

The store cancels each page in one step; what is read here only chooses.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from muskox.core.errors import OptionError
from muskox.core.job import JobState
from muskox.core.life import MOVES
from muskox.store.protocol import Selection, Store

__all__ = ["CANCELLABLE", "cancel_added_before", "cancellable", "microseconds"]

PAGE = 200
"""Jobs that are read at once; each may have a megabyte of data."""

CANCELLABLE = (JobState.DELAYED, JobState.BLOCKED, JobState.WAITING, JobState.ACTIVE)
"""The states that a job may be cancelled from, in the order of its life, so that few get ahead of a walk."""


def cancellable(states: Collection[JobState]) -> tuple[JobState, ...]:
    """Check that jobs in these states (none: all) may be cancelled; returns the states in the order of a walk."""
    ended = [state for state in states if state not in MOVES["cancel"]]
    if ended:
        raise OptionError(
            f"{ended[0]} jobs have ended and cannot be cancelled; the states are {', '.join(CANCELLABLE)}"
        )
    return tuple(state for state in CANCELLABLE if not states or state in states)


def microseconds(added_before: datetime) -> int:
    """The moment in microseconds since 1970; raises `OptionError` unless it is aware."""
    if not isinstance(added_before, datetime) or added_before.tzinfo is None:
        raise OptionError(f"added_before must be an aware datetime, such as datetime.now(UTC), not {added_before!r}")
    return round(added_before.timestamp() * 1_000_000)


async def cancel_added_before(store: Store, chosen: Selection, before_us: int) -> int:
    """Cancel the jobs of a selection that were added before a moment; returns how many.

    Walks through the states until it finds none, since jobs move on meanwhile. Costs what is in these states.
    """
    total = 0
    while True:
        cancelled = await _walk(store, chosen, before_us)
        total += cancelled
        if not cancelled:
            return total


async def _walk(store: Store, chosen: Selection, before_us: int) -> int:
    page = Selection(chosen.queue, states=chosen.states, names=chosen.names, limit=PAGE)
    cancelled, cursor = 0, None
    while True:
        found = await store.find(page, after=cursor)
        ids = tuple(job.id for job in found.jobs if job.added_us < before_us)
        if ids:
            cancelled += await store.cancel(Selection(chosen.queue, ids=ids, states=chosen.states, limit=len(ids)))
        cursor = found.cursor
        if cursor is None:
            return cancelled
