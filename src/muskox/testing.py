"""Helpers for tests of programs that use Muskox: run jobs inline, a clock to move, a store that fails on purpose.

Nothing here is needed to run jobs in earnest, and nothing here waits for real time.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from muskox.app import Muskox
from muskox.core.errors import StoreError, StoreUnavailable
from muskox.core.job import Job, JobState
from muskox.core.life import Complete, Fail, Outcome, Settlement
from muskox.runtime.children import Children
from muskox.runtime.deadlines import Deadlines
from muskox.runtime.declaring import Declaring
from muskox.runtime.listeners import Hearing
from muskox.runtime.loop import Loop
from muskox.runtime.registry import Registry
from muskox.runtime.run import Run
from muskox.runtime.runs import Runs
from muskox.runtime.scheduler import Scheduler
from muskox.runtime.settler import Settler
from muskox.runtime.slots import Slots
from muskox.runtime.tell import Teller
from muskox.runtime.threads import Threads
from muskox.runtime.traced import attempt_of
from muskox.store.protocol import Store

__all__ = ["FakeWorld", "FlakyStore", "run_jobs", "run_jobs_sync"]

_START = 1_767_225_600.0
"""1 January 2026, 00:00 UTC."""


class FakeWorld:
    """A `World` in which time stands still until `advance` moves it.

    The same `seed` gives the same ids and the same dice; without one they are
    different each time, so that two worlds on one store do not make the same
    ids. May be asked from any thread.
    """

    simulated = True

    def __init__(self, start: float = _START, *, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._now = start
        self._monotonic = 0.0
        self._made = 0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: moves both clocks and wakes whoever has slept long enough."""
        if not seconds >= 0:
            raise ValueError(f"time passes forwards, not by {seconds} seconds; see jump() for a clock that is set")
        with self._lock:
            self._now += seconds
            self._monotonic += seconds
            over = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._monotonic]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._monotonic]
        for _, awake in sorted(over, key=lambda sleeper: sleeper[0]):
            _wake(awake)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as a person or a time server would; nobody's sleep ends by that."""
        with self._lock:
            self._now += seconds

    def now(self) -> float:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic

    def chance(self) -> float:
        with self._lock:
            return self._random.random()

    def secret(self, size: int) -> bytes:
        """`size` bytes from the seed: good for tests and for nothing else."""
        with self._lock:
            return self._random.randbytes(size)

    def new_id(self) -> str:
        """Make a UUIDv7 from this world's clock; a counter keeps ids of one moment in order."""
        with self._lock:
            self._made += 1
            milliseconds = int(self._now * 1000) & 0xFFFF_FFFF_FFFF
            order = self._made << 32 | self._random.getrandbits(32)
        high, low = order >> 62 & 0xFFF, order & 0x3FFF_FFFF_FFFF_FFFF
        return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low))

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by so many seconds."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            sleeper = (self._monotonic + seconds, awake)
            self._sleepers.append(sleeper)
        try:
            await awake
        finally:
            with self._lock:
                if sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work, name=name)


def _wake(awake: asyncio.Future[None]) -> None:
    # The sleeper may live in another thread's loop, which may have ended since.
    loop = awake.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if awake.done() else awake.set_result(None))


async def run_jobs(ox: Muskox, *, queues: Sequence[str] | None = None, limit: int = 1000) -> list[Job]:
    """Run what waits or is due by now here and to its end, one job at a time in the order of claims.

    Goes on with what the runs add, until nothing is left or `limit` runs were made. Schedules that the program
    declares begin with the first call, and each call fires those that are due by then: move the clock of a
    `FakeWorld`, call it again. Returns the jobs in the order in which they ended, as they were then. A job that
    failed and is tried again after a delay has not ended; it, too, goes on once the clock has passed the delay.
    Listeners hear what happens meanwhile, in order.
    Raises what the store raises, and `OptionError` for a queue that has no processor.
    """
    wanted = ox.wanted(queues)
    async with _Inline(ox, await ox.store()) as inline:
        for _ in range(limit):
            job = await inline.claim(wanted)
            if job is None:
                break
            await inline.run(job)
    return inline.ended


def run_jobs_sync(ox: Muskox, *, queues: Sequence[str] | None = None, limit: int = 1000) -> list[Job]:
    """`run_jobs` for blocking tests."""
    return ox.sync.bridge.run(run_jobs(ox, queues=queues, limit=limit))


class FlakyStore:
    """Stands before a store and fails on purpose: `flaky = ox.wrap_store(FlakyStore)`.

    While `down` is True every call raises `StoreUnavailable` and has no effect; while `lose_answers` is True it has
    its effect, but the answer gets lost and the same error is raised. `calls` counts them by verb.
    """

    def __init__(self, store: Store) -> None:
        self.down = False
        self.lose_answers = False
        self.calls: Counter[str] = Counter()
        self._store = store

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._store, verb)
        if verb == "close" or not callable(real):
            return real
        if not inspect.iscoroutinefunction(real):
            return lambda *args, **kwargs: self._answered(self._asked(verb, real)(*args, **kwargs))

        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = await self._asked(verb, real)(*args, **kwargs)
            # An open store is opened again before each verb, which must get through to have its effect.
            return answer if verb == "open" else self._answered(answer)

        return call

    def _asked(self, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        self.calls[verb] += 1
        if self.down:
            raise StoreUnavailable("the store is down on purpose: nothing was done")
        return real

    def _answered(self, answer: Any) -> Any:
        if self.lose_answers:
            raise StoreUnavailable("the answer of the store was lost on purpose: it was done all the same")
        return answer


_LEASE = 3600.0


class _Inline:
    """The pieces of a worker with one slot, moved step by step."""

    def __init__(self, ox: Muskox, store: Store) -> None:
        world = ox.world
        self.ended: list[Job] = []
        self._world, self._store, self._registry = world, store, ox.registry
        self._worker = world.secret(9).hex()
        self._threads, self._children = Threads(world, 1), Children(world, 1)
        self._hearing = Hearing(world, ox.registry, self._threads.call)
        self._runs = Runs(world, ox.registry, lease=_LEASE, some_ended=self._some_ended)
        self._changed = asyncio.Event()
        self._settlement: Settlement | None = None
        self._error: StoreError | None = None
        self._after = 0
        teller = Teller(store, ox.data_limit, self._wake)
        attempt = attempt_of(ox.registry.tracing, teller, self._threads, self._children, ox.data_limit)
        deadlines = Deadlines(world, self._runs.abandon, self._wake)
        self._slots = Slots(
            world, 1, attempt, begun=deadlines.watch, ended=self._run_ended, took=self._runs.figures.ran
        )
        self._settler = Settler(store, teller, self._settled)
        self._settling, self._timing = (Loop(duty, world, self._failed) for duty in (self._settler, deadlines))
        # Listeners are told from the store's log and not by the runs, so that they hear everything in one order.
        silent = Hearing(world, Registry(), self._threads.call)
        self._runs.join(self._slots, self._settler, deadlines, teller, silent)
        self._duties = (self._settling.run, self._timing.run, self._hearing.run)
        self._tasks: list[Any] = []
        declare = Declaring(store, ox.registry, lambda queue, what: None)
        self._scheduler = Scheduler(store, world, declare=declare, poll=1.0)

    async def __aenter__(self) -> Self:
        [latest] = await self._store.events(after=-1)
        self._after = latest.offset
        self._tasks = [self._world.spawn(duty(), name="muskox-inline") for duty in self._duties]
        self._slots.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._slots.close()
        self._threads.close()
        await self._children.close()

    async def claim(self, queues: Sequence[str]) -> Job | None:
        """The next job, claimed; None when nothing waits and no listener was told of anything that could add one."""
        while True:
            await self._scheduler.catch_up()
            while await self._store.promote():
                pass
            while found := await self._store.recover():
                self.ended += [one.job for one in found if one.job.settled]
            jobs = await self._store.claim(self._registry.wants(queues), limit=1, worker=self._worker, lease=_LEASE)
            told = await self._tell_listeners()
            if jobs:
                return jobs[0]
            if not told:
                return None

    async def run(self, job: Job) -> None:
        """Run a claimed job to its end, write what became of it and tell listeners."""
        self._settlement = None
        self._runs.arrived([job], self._world.monotonic())
        while self._runs.held():
            await self._changed.wait()
            self._changed.clear()
            if self._error is not None:
                raise self._error
        [stored] = await self._store.get(job.queue, [job.id])
        now = stored or _ended(job, self._settlement)
        if now is not None and now.settled:
            self.ended.append(now)
        await self._tell_listeners()

    async def _tell_listeners(self) -> bool:
        page = 1000
        while page == 1000:
            found = await self._store.events(after=self._after, limit=1000)
            page = len(found)
            for event in found:
                self._after = event.offset
                self._hearing.hear(event)
        told = not self._hearing.idle
        while not self._hearing.idle:  # noqa: ASYNC110 - in the order of the log, and nothing else goes on
            await asyncio.sleep(0)
        return told

    def _wake(self) -> None:
        self._settling.wake()
        self._timing.wake()

    def _run_ended(self, run: Run, outcome: Outcome) -> None:
        self._runs.ended(run, outcome)
        self._wake()

    def _some_ended(self, count: int) -> None:
        self._changed.set()
        self._wake()

    def _settled(self, batch: Sequence[Settlement], lost: set[int]) -> None:
        self._runs.settled(batch, lost)
        self._settlement = next((one for one in batch if one.lease.token not in lost), None)
        self._changed.set()

    def _failed(self, error: StoreError) -> None:
        self._error = error
        self._changed.set()


def _ended(job: Job, settlement: Settlement | None) -> Job | None:
    """The job as it was when it ended, where it was removed at once."""
    match settlement:
        case Complete(_, result, unkept):
            return msgspec.structs.replace(
                job, state=JobState.COMPLETED, result_text=result, failure=unkept, lease=None
            )
        case Fail(_, failure):
            return msgspec.structs.replace(job, state=JobState.FAILED, failure=failure, lease=None)
        case _:
            return None
