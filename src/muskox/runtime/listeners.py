"""Calls the listeners of a program, one event after another, apart from the jobs.

A listener that raises or hangs is reported and harms nothing: the fact stands,
and the next listener hears it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from muskox.core import life
from muskox.core.events import (
    Active,
    Completed,
    Event,
    Failed,
    JobEvent,
    QueueError,
    Released,
    Retrying,
    Stalled,
    Trimmed,
)
from muskox.core.job import Job, JobState, Lease
from muskox.core.life import Settlement
from muskox.core.seam import World
from muskox.runtime.loop import Alarm
from muskox.runtime.registry import Listener, Registry

__all__ = ["Hearing"]

log = logging.getLogger("muskox.listener")

MOST_PENDING = 10_000
PATIENCE = 30.0
"""Seconds that a listener may take for one event."""


class Hearing:
    """Events that listeners still have to hear, and the coroutine that tells them."""

    def __init__(self, world: World, registry: Registry, call_in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._world = world
        self._registry = registry
        self._call_in_thread = call_in_thread
        self._pending: deque[Event] = deque()
        self._alarm = Alarm(world)
        self._busy = False
        self._dropped = 0
        self.rested: Callable[[], object] = lambda: None
        """Called whenever there is nothing more to be heard."""

    def hear(self, event: Event) -> None:
        """Have listeners told of an event, unless far too many wait already."""
        if not self._registry.hears(event.kind, event.queue):
            return
        if len(self._pending) >= MOST_PENDING:
            self._dropped += 1
            if self._dropped & (self._dropped - 1) == 0:
                log.warning("listeners are too slow: %d events were not told to them", self._dropped)
            return
        self._pending.append(event)
        self._alarm.ring()

    def hear_active(self, jobs: Sequence[Job]) -> None:
        """Tell of jobs that this worker has claimed."""
        for job in jobs:
            self.hear(Active(job.queue, 0, self._now(), job.id, job.name, job.attempt))

    def hear_settled(self, settlement: Settlement, stalls: int) -> None:
        """Tell of a settlement that is written; `stalls` is how many its job had before."""
        lease = settlement.lease
        match settlement:
            case life.Complete():
                self.hear(self._of(Completed, lease))
            case life.Retry(_, delay, failure):
                self.hear(
                    Retrying(lease.queue, 0, self._now(), lease.job_id, lease.name, lease.attempt, failure, delay)
                )
            case life.Fail(_, failure):
                self.hear(Failed(lease.queue, 0, self._now(), lease.job_id, lease.name, lease.attempt, failure))
            case life.Stall():
                fact = (lease.queue, 0, self._now(), lease.job_id, lease.name, lease.attempt)
                self.hear(Stalled(*fact, stalls=stalls + 1))
            case life.Release():
                self.hear(self._of(Released, lease))

    def hear_recovered(self, job: Job) -> None:
        """Tell of a job whose lease had run out."""
        fact = (job.queue, 0, self._now(), job.id, job.name, job.attempt)
        self.hear(Stalled(*fact, stalls=job.stalls))
        if job.state is JobState.FAILED:
            self.hear(Failed(*fact, job.failure))

    def _of(self, cls: type[JobEvent], lease: Lease) -> JobEvent:
        return cls(lease.queue, 0, self._now(), lease.job_id, lease.name, lease.attempt)

    def _now(self) -> int:
        return int(self._world.now() * 1_000_000)

    @property
    def idle(self) -> bool:
        return not self._pending and not self._busy

    async def run(self) -> None:
        """Tell listeners of events as they come, until cancelled."""
        while True:
            if not self._pending:
                await self._alarm.sleep(None)
                continue
            self._busy = True
            event = self._pending.popleft()
            for listener in self._registry.listeners(event):
                await self._tell(listener, event)
            self._busy = False
            if not self._pending:
                self.rested()

    async def _tell(self, listener: Listener, event: Event) -> None:
        # A task of its own, since a listener may swallow its cancel; then it is left to itself.
        call = self._world.spawn(self._call(listener, event), name="muskox-listener")
        try:
            await asyncio.wait([call], timeout=PATIENCE)
        finally:
            call.cancel()
        error = call.result() if call.done() else TimeoutError(f"it took more than {PATIENCE:g} seconds")
        if error is not None:
            name = getattr(listener, "__qualname__", repr(listener))
            log.error("listener %s failed on event %s", name, event.kind, exc_info=error)
            if not isinstance(event, QueueError | Trimmed):
                self.hear(QueueError(event.queue, 0, event.at_us, f"listener {name} raised {type(error).__name__}"))

    async def _call(self, listener: Listener, event: Event) -> BaseException | None:
        """Call the listener and give what it raised."""
        try:
            if inspect.iscoroutinefunction(listener):
                await listener(event)
            else:
                answer = await self._call_in_thread(listener, event)
                if isinstance(answer, Awaitable):
                    await answer
        except BaseException as error:  # noqa: BLE001 - a listener is foreign code and may raise anything
            return error
        return None
