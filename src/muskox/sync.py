"""The same verbs for blocking code: one thread with an event loop, and a bridge to it.

Each verb here is the async one, handed over as it is; nothing is written twice.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from muskox.batch import Batch
from muskox.core.errors import MuskoxError
from muskox.core.events import Event
from muskox.core.job import Job
from muskox.filling import PATIENCE
from muskox.flows import Flow, Flows
from muskox.queue import AddOptions, Item, Queue
from muskox.schedules import Schedules

__all__ = ["AppFlows", "Bridge", "SyncBatch", "SyncFlows", "SyncQueue", "SyncSchedules", "blocking"]

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q")
Q_co = TypeVar("Q_co", covariant=True)


class Bridge:
    """A thread with an event loop in which coroutines are run for callers that block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._inherited: object = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the bridge's loop and wait for it; raises what it raises."""
        if threading.current_thread() is self._thread:
            work.close()
            raise MuskoxError(
                "a blocking verb was called in the event loop that serves blocking verbs, where it would wait for "
                "itself for ever; use the async verb there"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def follow(self, following: AsyncGenerator[T, None]) -> Iterator[T]:
        """Give what an async generator gives, blocking between the items."""
        try:
            while True:
                yield self.run(_next(following))
        finally:
            self.run(_end(following))

    def close(self) -> None:
        """End the thread, and what still runs in it; a later call starts another."""
        self._leave_parent()
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    async def let_go(self) -> None:
        """`close` for callers in an event loop; nothing when that loop is the bridge's own."""
        if self._thread is not None and threading.current_thread() is not self._thread:
            await asyncio.to_thread(self.close)

    def _leave_parent(self) -> None:
        # A forked child has the loop of its parent but not the thread in which it runs. It is kept and not closed,
        # because the two share the poll of the system.
        if self._pid != os.getpid():
            self._inherited, self._loop, self._thread = self._loop, None, None
            self._lock, self._pid = threading.Lock(), os.getpid()

    def _running(self) -> asyncio.AbstractEventLoop:
        self._leave_parent()
        with self._lock:
            if self._loop is None:
                runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
                self._loop = runner.get_loop()
                self._thread = threading.Thread(target=self._serve, args=(runner,), name="muskox-sync", daemon=True)
                self._thread.start()
            return self._loop

    @staticmethod
    def _serve(runner: asyncio.Runner) -> None:
        with runner:  # at its end it cancels what still runs and closes generators and helper threads
            runner.get_loop().run_forever()


class Blocking(Generic[Q_co]):
    """Something with async verbs, `inner`, and the bridge over which they are called."""

    def __init__(self, inner: Q_co, bridge: Bridge) -> None:
        self.inner = inner
        self.bridge = bridge


def blocking(
    verb: Callable[Concatenate[Q, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[Q], P], T]:
    """Make the blocking form of an async method, with the same parameters."""

    def call(self: Blocking[Q], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.bridge.run(verb(self.inner, *args, **kwargs))

    call.__doc__ = verb.__doc__
    call.__name__ = verb.__name__
    return call


class SyncQueue(Blocking[Queue]):
    """The verbs of a queue for blocking code: `queue.sync.add(…)`."""

    def add(
        self,
        name: str,
        data: Any = None,
        *,
        within: Any = None,
        patience: float | timedelta = PATIENCE,
        **options: Unpack[AddOptions],
    ) -> Job:
        """Store a job and return it; see `Queue.add`. With `within`, in the caller's thread and transaction."""
        [job] = self.add_many([self.inner.new(name, data, **options)], within=within, patience=patience)
        return job

    def add_many(
        self, items: Iterable[Item], *, within: Any = None, patience: float | timedelta = PATIENCE
    ) -> list[Job]:
        """Store all of the jobs or none; see `Queue.add_many`."""
        jobs = self.inner.prepare(items)
        if within is None:
            return self.bridge.run(self.inner.add_many(jobs, patience=patience))
        return self.inner.add_within(jobs, within)

    get = blocking(Queue.get)
    find = blocking(Queue.find)
    counts = blocking(Queue.counts)
    explain = blocking(Queue.explain)
    logs = blocking(Queue.logs)
    result = blocking(Queue.result)
    update = blocking(Queue.update)
    retry = blocking(Queue.retry)
    retry_all = blocking(Queue.retry_all)
    promote = blocking(Queue.promote)
    promote_all = blocking(Queue.promote_all)
    cancel = blocking(Queue.cancel)
    cancel_all = blocking(Queue.cancel_all)
    remove = blocking(Queue.remove)
    remove_all = blocking(Queue.remove_all)
    drain = blocking(Queue.drain)
    clean = blocking(Queue.clean)
    pause = blocking(Queue.pause)
    resume = blocking(Queue.resume)
    limits = blocking(Queue.limits)
    set_limits = blocking(Queue.set_limits)
    key = blocking(Queue.key)
    keys = blocking(Queue.keys)
    set_key = blocking(Queue.set_key)
    hold = blocking(Queue.hold)

    def events(self, *, after: int | None = None, kinds: Collection[str] | None = None) -> Iterator[Event]:
        """Follow what happens in the queue, blocking between events; see `Queue.events`."""
        return self.bridge.follow(self.inner.events(after=after, kinds=kinds))


class SyncFlows(Blocking[Flows]):
    """The verbs of the flows for blocking code: `ox.flows.sync.add(flow)`."""

    def add(self, flow: Flow, *, within: Any = None) -> list[Job]:
        """Store a whole flow or nothing of it; see `Flows.add`. With `within`, in the caller's thread."""
        if within is None:
            return self.bridge.run(self.inner.add(flow))
        return self.inner.add_within(flow, within)

    get = blocking(Flows.get)
    jobs = blocking(Flows.jobs)
    parents = blocking(Flows.parents)
    close = blocking(Flows.close)
    cancel = blocking(Flows.cancel)
    retry = blocking(Flows.retry)
    list = blocking(Flows.list)


class AppFlows(Flows):
    """What `Muskox.flows` is: with the same verbs for blocking code under `sync`."""

    sync: SyncFlows


class SyncBatch(Blocking[Batch]):
    """A batch for blocking code: `with ox.sync.batch("newsletter-7") as batch: batch.add_many(…)`."""

    @property
    def id(self) -> str:
        return self.inner.id

    open = blocking(Batch.open)
    add = blocking(Batch.add)
    add_many = blocking(Batch.add_many)
    close = blocking(Batch.close)
    look = blocking(Batch.look)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()


class SyncSchedules(Blocking[Schedules]):
    """The verbs of the schedules for blocking code: `ox.schedules.sync.list()`."""

    add_cron = blocking(Schedules.add_cron)
    add_every = blocking(Schedules.add_every)
    add_once = blocking(Schedules.add_once)
    get = blocking(Schedules.get)
    list = blocking(Schedules.list)
    ledger = blocking(Schedules.ledger)
    pause = blocking(Schedules.pause)
    resume = blocking(Schedules.resume)
    update = blocking(Schedules.update)
    delete = blocking(Schedules.delete)
    run_now = blocking(Schedules.run_now)
    orphans = blocking(Schedules.orphans)
    prune = blocking(Schedules.prune)


async def _next(following: AsyncGenerator[T, None]) -> T:
    return await anext(following)


async def _end(following: AsyncGenerator[T, None]) -> None:
    await following.aclose()
