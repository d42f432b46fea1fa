"""Fires due schedules: every worker may, and for each moment one of them does, so there is no leader.

What becomes of a moment is said in `core/schedule.py`; that it is used up once,
in one step with adding its job, belongs to the store, and so does the clock.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from muskox.core.job import NewJob
from muskox.core.kept import Entry, Kept
from muskox.core.schedule import Told, plan
from muskox.core.seam import World
from muskox.store.protocol import SCHEDULES, Firing, Looked, Store

__all__ = ["Changes", "Scheduler"]

log = logging.getLogger("muskox.scheduler")

BATCH = 500
"""Schedules that are fired in one step."""

MOST_JOBS = 1000
"""Jobs that are added in one step, unless a single schedule catches up more."""

SHARE = 25
"""Schedules that are planned before others of this loop get their turn."""

SHORTEST_REST = 0.001
STAGGER = 0.010
"""Seconds that those who were late last time leave to the one that was first, so that not all of them write at once."""


class Scheduler:
    """A duty: a look at what is due, then a rest until the nearest moment. `declare` is done before the first."""

    def __init__(self, store: Store, world: World, *, declare: Callable[[], Awaitable[None]], poll: float) -> None:
        self._store = store
        self._world = world
        self._declare = declare
        self._poll = poll
        self._declared = False
        self._expected: int | None = None
        self._behind = False
        self.closed = False

    async def turn(self) -> float | None:
        if self.closed:
            return None
        if not self._declared:
            await self._declare()
            self._declared = True
        looked = await self._store.schedules(due=True, limit=BATCH)
        if looked.kept:
            won = await self._fire(looked)
            self._expected, self._behind = None, not won
            # Who lost leaves the rest to the winner for a while, instead of reading what that one has in hand.
            return 0.0 if won else STAGGER * self._world.chance()
        if self._expected is not None and looked.now_us >= self._expected:
            self._behind = True  # it was its time, and somebody else has been there
        self._expected = looked.nearest_us
        return self._rest(looked)

    async def catch_up(self) -> None:
        """Do all that is due by now, and return."""
        while await self.turn() == 0.0:
            pass

    def _rest(self, looked: Looked) -> float:
        if looked.nearest_us is None:
            return self._poll
        rest = (looked.nearest_us - looked.now_us) / 1_000_000
        if self._behind:
            rest += STAGGER * (0.4 + 0.6 * self._world.chance())
        return min(self._poll, max(SHORTEST_REST, rest))

    async def _fire(self, looked: Looked) -> bool:
        """Fire what is due; says whether this worker was the one that did, for any of it."""
        won, jobs, firings = False, 0, list[Firing]()
        for number, kept in enumerate(looked.kept, 1):
            firing = firing_of(kept, looked.now_us, self._world)
            if firing is not None:
                firings.append(firing)
                jobs += len(firing.jobs)
            if jobs >= MOST_JOBS:
                won = await self._use_up(firings) or won
                jobs, firings = 0, []
            if number % SHARE == 0:
                await self._world.sleep(0)
        return await self._use_up(firings) or won if firings else won

    async def _use_up(self, firings: Sequence[Firing]) -> bool:
        answers = await self._store.fire(firings)
        for firing, answer in zip(firings, answers, strict=True):
            if answer is not None:
                _tell(firing)
        return any(answer is not None for answer in answers)


class Changes:
    """A duty that rests in the store until a schedule is put anywhere, and then has the scheduler look."""

    def __init__(self, store: Store, *, poll: float, wake: Callable[[], None]) -> None:
        self._store = store
        self._poll = poll
        self._wake = wake

    async def turn(self) -> float:
        await self._store.wait([SCHEDULES], seconds=self._poll)
        self._wake()
        return 0.0


def firing_of(kept: Kept, now_us: int, world: World) -> Firing | None:
    """How a schedule is fired now; None when nothing of it is due."""
    schedule = kept.schedule
    if kept.next_us is None:
        return None
    planned = plan(schedule, kept.next_us, now_us)
    if not planned.moments and planned.next_us == kept.next_us:
        return None
    jobs: list[NewJob] = []
    entries: list[Entry] = []
    last_us = kept.last_us
    for one in planned.moments:
        if one.told is Told.MISSED:
            entries.append(Entry(one.at_us, one.told, None, one.reason, one.missed))
            continue
        id = schedule.job_id(kept.generation, one.at_us)
        delay = schedule.jitter * world.chance() if schedule.jitter else 0.0
        jobs.append(
            NewJob(
                id,
                schedule.queue,
                schedule.job,
                schedule.data,
                schedule.priority,
                delay,
                schedule.options,
                schedule.key,
            )
        )
        entries.append(Entry(one.at_us, one.told, id, one.reason))
        last_us = one.at_us
    return Firing(schedule.name, kept.version, planned.next_us, last_us, tuple(jobs), tuple(entries))


def _tell(firing: Firing) -> None:
    missed = sum(entry.missed for entry in firing.entries if entry.told is Told.MISSED)
    late = sum(entry.told is Told.LATE for entry in firing.entries)
    if missed or late:
        log.warning("schedule %s: %d moments were missed, %d are caught up", firing.name, missed, late)
    else:
        log.debug("schedule %s fired %d moments", firing.name, len(firing.jobs))
