"""The worker: free slots → claim → start runs → settle, and a stop that loses nothing.

It puts the pieces of this room together and says when each begins and ends;
what the pieces do is in their own modules.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Self

import msgspec

from muskox.core.errors import DeclarationError, OptionError, StoreError
from muskox.core.events import QueueError
from muskox.core.life import Settlement
from muskox.core.seam import World
from muskox.runtime.batches import Gathering
from muskox.runtime.beside import Companion
from muskox.runtime.children import Children
from muskox.runtime.claimer import Claimer, GiveBack, InTurn, Lookout
from muskox.runtime.deadlines import INSISTENCE, Deadlines
from muskox.runtime.declaring import Declaring, declare_limits
from muskox.runtime.follower import Follower, follows
from muskox.runtime.leases import LeaseKeeper
from muskox.runtime.listeners import Hearing
from muskox.runtime.loop import Alarm, Duty, Loop
from muskox.runtime.presence import Presence
from muskox.runtime.registry import Registry
from muskox.runtime.runs import Runs
from muskox.runtime.scheduler import Changes, Scheduler
from muskox.runtime.settler import Settler
from muskox.runtime.slots import Slots
from muskox.runtime.switching import quick_switching
from muskox.runtime.tell import Teller
from muskox.runtime.threads import Threads
from muskox.runtime.traced import attempt_of
from muskox.runtime.upkeep import Clear, Promote, Recover
from muskox.store.protocol import Store, Want, WorkerRecord

__all__ = ["Settings", "Worker"]

log = logging.getLogger("muskox.worker")


WRITING = 10.0
"""Seconds that a stopping worker goes on trying to write what became of its runs."""


class Settings(msgspec.Struct, frozen=True):
    """How a worker works: runs at once, seconds of a lease, of a gentle stop, and between looks without a hint."""

    concurrency: int = 10
    lease: float = 30.0
    shutdown_timeout: float = 25.0
    poll: float = 1.0
    data_limit: int = 1_048_576

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= 100_000:
            raise OptionError(f"concurrency must be between 1 and 100000, not {self.concurrency}")
        if not 0.1 <= self.lease <= 86_400:
            raise OptionError(f"lease must be between 0.1 and 86400 seconds, not {self.lease}; 30 is usual")
        if not 0 <= self.shutdown_timeout <= 86_400:
            raise OptionError(f"shutdown_timeout must be between 0 and 86400 seconds, not {self.shutdown_timeout}")
        if not 0.01 <= self.poll <= 60:
            raise OptionError(f"poll must be between 0.01 and 60 seconds, not {self.poll}")


class Worker:
    """Runs the jobs of some queues until it is told to stop. Good for one run.

    Use `await worker.run()`, or `async with worker:` to have it work beside the block. `store` gives the store
    for the event loop that asks.
    """

    def __init__(
        self, store: Callable[[], Store], world: World, registry: Registry, queues: Sequence[str], settings: Settings
    ) -> None:
        self.id = world.secret(9).hex()
        self.settings = settings
        self.wants: list[Want] = registry.wants(queues)
        if not self.wants:
            asked = ", ".join(queues) or "none"
            raise OptionError(f"no processor is declared for the queues of this worker ({asked}); declare one first")
        self._store_here = store
        self._world = world
        self._registry = registry
        self._stop = 0
        self._alarm: Alarm | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    def stop(self, *, now: bool = False) -> None:
        """Claim no more, let runs end within the shutdown timeout, give the rest back; `now`: give back at once.

        Returns immediately; `run` returns when it is done. From the worker's own loop only.
        """
        self._stop = max(self._stop, 2 if now else 1)
        if self._alarm is not None:
            self._alarm.ring()

    async def run(self) -> None:
        """Work until `stop`. Raises `StoreError` and its kin when the store cannot be opened at the start."""
        if "muskox.runtime.child" in sys.modules:
            # Its parent would start another child for each of its isolated jobs, and so on without end.
            raise DeclarationError(
                "a worker cannot run in the child process of an isolated processor; start it in its program "
                'under `if __name__ == "__main__":`, which a child does not run'
            )
        store = self._store_here()
        await store.open()
        await declare_limits(store, self._registry, [want.queue for want in self.wants])
        with nullcontext() if store.traits.loop_bound else quick_switching():
            await self._work(store)

    async def _work(self, store: Store) -> None:
        self._assemble(store)
        if self._follower is not None:
            await self._follower.begin()
        self._keeper.open()
        self._slots.open()
        log.info("worker %s takes jobs from %s", self.id, ", ".join(want.queue for want in self.wants))
        tasks = [self._world.spawn(loop.run(), name="muskox-duty") for loop in self._loops]
        tasks.append(self._world.spawn(self._hearing.run(), name="muskox-listeners"))
        self._ready.set()
        try:
            try:
                await self._until(1, tasks)
                self._tell_of_the_end(tasks)
            except asyncio.CancelledError:
                self.stop(now=True)
                raise
            finally:
                await self._wind_down()
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()
        log.info("worker %s has stopped", self.id)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def _assemble(self, store: Store) -> None:
        world, settings = self._world, self.settings
        self._alarm = Alarm(world)
        self._threads = Threads(world, settings.concurrency)
        self._children = Children(world, settings.concurrency)
        # A thread of their own: processors that hold all the others must not keep listeners waiting.
        self._ears = Threads(world, 1)
        self._hearing = Hearing(world, self._registry, self._ears.call)
        self._hearing.rested = self._look_whether_quiet
        self._runs = runs = Runs(world, self._registry, lease=settings.lease, some_ended=self._some_ended)
        teller = Teller(store, settings.data_limit, self._wake_settler)
        attempt = attempt_of(self._registry.tracing, teller, self._threads, self._children, settings.data_limit)
        deadlines = Deadlines(world, runs.abandon, self._wake_timer)
        self._slots = Slots(
            world,
            settings.concurrency,
            attempt,
            begun=deadlines.watch,
            ended=runs.ended,
            took=runs.figures.ran,
        )
        self._settler = Settler(store, teller, self._settled)
        runs.join(self._slots, self._settler, deadlines, teller, self._hearing)
        queues = [want.queue for want in self.wants]
        self._claimer = self._claimer_of(self._registry.single_wants(queues), settings.concurrency, runs.load)
        self._lookout = Lookout(store, world, queues, poll=settings.poll, retry=self._look_again)
        self._presence = Presence(store, self._record, self._hearing.hear, runs.figures)
        self._keeper = LeaseKeeper(self._store_here, world, lease=settings.lease, held=runs.held, lost=runs.lost)
        self._settling = self._loop(self._settler)
        self._timing = self._loop(deadlines)
        self._looking_out = self._loop(self._lookout)
        # Two claims may be on their way: one batch runs while the next is fetched.
        self._claiming = [self._loop(self._claimer), self._loop(self._claimer), *self._assemble_batches(queues)]
        others: list[Duty] = [
            Promote(store),
            Recover(store, world, settings.lease, runs.recovered),
            Clear(store, world, self._registry.retentions),
            GiveBack(world, self._claimer, runs.give_back_waiting),
            self._presence,
        ]
        others += self._assemble_schedules(store)
        self._follower = Follower(store, self._registry, self._hearing.hear) if follows(self._registry) else None
        if self._follower is not None:
            others.append(self._follower)
        self._loops = [
            self._settling, self._timing, self._looking_out, *self._claiming, *self._gathering_loops, self._scheduling,
            *map(self._loop, others),
        ]  # fmt: skip

    def _assemble_batches(self, queues: Sequence[str]) -> list[Loop]:
        """What gathers batches, each with a claimer of its own; returns the loop that claims, if there are any."""
        self._batch_claimers: list[Claimer] = []
        self._gatherings = [
            Gathering(one, self._world, give=self._runs.begin, wake=self._wake_gathering, room=self._wake_batches)
            for one in self._registry.batched(queues)
        ]
        self._runs.gather(self._gatherings)
        self._gathering_loops = [self._loop(gathering) for gathering in self._gatherings]
        for number, its in enumerate(self._gatherings):
            want = self._registry.want_of(its.declaration)
            self._batch_claimers.append(self._claimer_of([want], its.declaration.batch, its.load, f"{number}-"))
        return [self._loop(InTurn(self._batch_claimers))] if self._batch_claimers else []

    def _wake_gathering(self) -> None:
        for loop in self._gathering_loops:
            loop.wake()

    def _wake_batches(self) -> None:
        for loop in self._claiming[2:]:
            loop.wake()

    def _claimer_of(self, wants: Sequence[Want], slots: int, held: Callable[[], int], mark: str = "") -> Claimer:
        return Claimer(
            self._store_here(), self._world, wants=wants, worker=self.id, lease=self.settings.lease, slots=slots,
            held=held, arrived=self._runs.arrived, starved=self._starved, mark=mark,
        )  # fmt: skip

    def _assemble_schedules(self, store: Store) -> list[Duty]:
        """The scheduler, in a loop that can be woken; returns the duties that go with it."""
        declare, poll = Declaring(store, self._registry, self._tell_wrong), self.settings.poll
        self._scheduler = Scheduler(store, self._world, declare=declare, poll=poll)
        self._scheduling = self._loop(self._scheduler)
        beside = self._registry.beside()
        self._own_threads = Threads(self._world, max(1, len(beside)))
        self._companions = [Companion(one, self._world, self._own_threads.call, self._tell_wrong) for one in beside]
        return [Changes(store, poll=poll, wake=self._scheduling.wake), *self._companions]

    def _tell_wrong(self, queue: str, what: str) -> None:
        self._hearing.hear(QueueError(queue, 0, int(self._world.now() * 1_000_000), what))

    def _wake_settler(self) -> None:
        self._settling.wake()

    def _wake_timer(self) -> None:
        self._timing.wake()

    def _loop(self, duty: Duty) -> Loop:
        return Loop(duty, self._world, self._report)

    def _some_ended(self, count: int) -> None:
        self._claimer.count(count)
        self._settling.wake()
        if self._claimer.hungry and self._claimer.room() > 0:
            for loop in self._claiming:
                loop.wake()
        self._look_whether_quiet()

    def _settled(self, batch: Sequence[Settlement], lost: set[int]) -> None:
        self._runs.settled(batch, lost)
        self._look_whether_quiet()

    def _starved(self) -> None:
        self._lookout.starved = True
        self._looking_out.wake()
        self._look_whether_quiet()

    def _look_whether_quiet(self) -> None:
        """Let a stop go on at once when there is nothing more to wait for, also where time stands still."""
        if self._stop and self._alarm is not None:
            self._alarm.ring()

    def _look_again(self) -> None:
        for claimer in (self._claimer, *self._batch_claimers):
            claimer.hungry = True
        self._claiming[0].wake()
        self._wake_batches()

    def _record(self) -> WorkerRecord:
        return WorkerRecord(
            self.id, socket.gethostname(), os.getpid(), tuple(self.wants), self.settings.concurrency,
            self._slots.running, self._stop > 0,
        )  # fmt: skip

    def _report(self, error: StoreError) -> None:
        log.warning("the store failed, it will be asked again: %s", error)
        for want in self.wants:
            self._hearing.hear(QueueError(want.queue, 0, int(self._world.now() * 1_000_000), str(error)))

    async def _until(self, stop: int, tasks: Sequence[asyncio.Task[None]] = ()) -> None:
        """Return when so strong a stop was asked for, or when one of the tasks has ended, which none should."""
        assert self._alarm is not None
        while self._stop < stop and not any(task.done() for task in tasks):
            await self._alarm.sleep(1.0)

    def _tell_of_the_end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Say at once that a fault of ours ends the worker: who works beside a block learns it at the block's end."""
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                log.critical("worker %s stops, because a part of it failed", self.id, exc_info=error)

    async def _wind_down(self) -> None:
        """Claim no more, let runs end, give the rest back, write it all."""
        self._claimer.closed = self._runs.closed = self._scheduler.closed = True
        for claimer in self._batch_claimers:
            claimer.closed = True
        for gathering in self._gatherings:
            self._runs.give_back(gathering.take_back())
        for companion in self._companions:
            companion.closed = True
        self._runs.give_back(self._slots.take_back())
        await self._until_quiet(self.settings.shutdown_timeout, urgent=2)
        self._runs.interrupt_all()
        # A run that does not stop is abandoned by the deadlines after sum(INSISTENCE) seconds.
        await self._until_quiet(sum(INSISTENCE) + 2.0)
        await self._until_quiet(WRITING, lambda: self._settler.idle and self._hearing.idle)
        try:
            await self._presence.leave()
        except StoreError as error:
            log.warning("the worker could not say good-bye: %s", error)

    async def _until_quiet(self, seconds: float, quiet: Callable[[], bool] | None = None, *, urgent: int = 3) -> None:
        """Return when nothing runs and no claim is on its way, at the latest after so many seconds."""
        assert self._alarm is not None
        until = self._world.monotonic() + seconds
        while self._stop < urgent and (left := until - self._world.monotonic()) > 0:
            if quiet is None and self._slots.running == 0 and self._claims_nothing():
                return
            if quiet is not None and quiet():
                return
            await self._alarm.sleep(min(left, 0.02))

    def _claims_nothing(self) -> bool:
        return self._claimer.idle and all(claimer.idle for claimer in self._batch_claimers)

    async def _close(self) -> None:
        await self._keeper.close()
        for companion in self._companions:
            await companion.close()
        self._own_threads.close()
        await self._slots.close()
        self._threads.close()
        self._ears.close()
        await self._children.close()

    async def __aenter__(self) -> Self:
        self._task = self._world.spawn(self.run(), name="muskox-worker")
        started = self._world.spawn(self._ready.wait(), name="muskox-started")
        await asyncio.wait([self._task, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._task is not None:
            await self._task
