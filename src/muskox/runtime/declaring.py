"""Puts the schedules that a program declares into its store, and says what does not fit.

An unchanged one keeps its next moment and its pause. Nothing is ever deleted
here: what left the code is reported, and a person decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from muskox.core.intent import Intent, first, revised
from muskox.core.kept import Kept
from muskox.core.schedule import Owner
from muskox.runtime.registry import Registry
from muskox.store.protocol import Change, Store

__all__ = ["Declaring", "declare_limits"]

log = logging.getLogger("muskox.scheduler")

PAGE = 500
ROUNDS = 20
"""How often it is tried to put what somebody else has changed meanwhile."""

MOST_LOOKED_AT = 10_000
"""Schedules among which those that left the code are looked for."""

Report = Callable[[str, str], None]
"""Told the queue and what is wrong."""


async def declare_limits(store: Store, registry: Registry, queues: Iterable[str]) -> None:
    """Put the limits that the program declares for these queues, where it did not say so before."""
    for queue in queues:
        if queue in registry.limits and await store.limit(queue, registry.limits[queue], declared=True):
            log.info("queue %s has other limits from now on than before", queue)


class Declaring:
    """What a worker does once at its start; may be done again when it was cut short."""

    def __init__(self, store: Store, registry: Registry, report: Report) -> None:
        self._store = store
        self._registry = registry
        self._report = report
        self._said: set[str] = set()

    async def __call__(self) -> None:
        intents = self._registry.schedules()
        for start in range(0, len(intents), PAGE):
            await self._put(intents[start : start + PAGE])
        if intents:
            await self._look_for_orphans()

    async def _put(self, intents: Sequence[Intent]) -> None:
        """Put what is new or changed; again what somebody else has changed meanwhile."""
        left = list(intents)
        for _ in range(ROUNDS):
            if not left:
                return
            looked = await self._store.schedules([one.schedule.name for one in left], limit=len(left))
            there = {kept.schedule.name: kept for kept in looked.kept}
            asked = [
                (one, change)
                for one in left
                if (change := self._change(one, there.get(one.schedule.name), looked.now_us)) is not None
            ]
            made = await self._store.put_schedules([change for _, change in asked]) if asked else []
            left = [one for (one, _), done in zip(asked, made, strict=True) if not done]
        for one in left:
            name = one.schedule.name
            self._say(
                one.schedule.queue,
                f"schedule {name} could not be put: one of that name is there that cannot be read here, or others "
                "change it all the time; look at it from the newest release",
            )

    def _change(self, intent: Intent, kept: Kept | None, now_us: int) -> Change | None:
        name = intent.schedule.name
        if kept is None:
            log.info("schedule %s is new", name)
            return Change(name, 0, first(intent.at(now_us), now_us))
        if kept.schedule.owner is not Owner.CODE:
            self._say(
                intent.schedule.queue,
                f"schedule {name} is declared in code, but a user has made one of that name, which is left as it is; "
                "give the declared one another name, or delete the other",
            )
            return None
        schedule = intent.over(kept.schedule, now_us)
        if schedule == kept.schedule:
            return None
        log.info("schedule %s is declared in another way than before, and replaced", name)
        return Change(name, kept.version, revised(kept, schedule, now_us))

    async def _look_for_orphans(self) -> None:
        looked = await self._store.schedules(limit=MOST_LOOKED_AT)
        for kept in looked.kept:
            if self._registry.is_orphan(kept):
                self._say(
                    kept.schedule.queue,
                    f"schedule {kept.schedule.name} is not declared in code any more, and goes on; "
                    "muskox schedules prune deletes such",
                )

    def _say(self, queue: str, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", what)
            self._report(queue, what)
