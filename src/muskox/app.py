"""`Muskox`: where a program says what it has, and from where it gets queues and workers.

It builds and hands over; each thing is done in the room it belongs to. There
is no current app: whoever needs one is given it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar, Unpack, cast

from muskox.batch import Batch, new_batch
from muskox.core.codec import DATA_LIMIT
from muskox.core.errors import OptionError
from muskox.core.events import Event, check_kind
from muskox.core.job import Job, NewJob, Retention, check_id, check_queue_name
from muskox.core.seam import World
from muskox.core.tracing import Tracing, followed
from muskox.explaining import Explanation, explain_anywhere
from muskox.filling import PATIENCE, add_patiently
from muskox.limiting import LimitOptions, read_limits
from muskox.moving import ENDED, UNENDED, Moved, move
from muskox.past import Past
from muskox.processors import AppQueue, Processor, include
from muskox.running import Running
from muskox.runtime.registry import Listener, Registry
from muskox.runtime.world import RealWorld
from muskox.settings import find_url, masked
from muskox.store import open_store
from muskox.store.protocol import Check, Finding, QueueCounts, Store, WorkerRecord
from muskox.sync import AppFlows, Blocking, Bridge, SyncBatch, SyncFlows, SyncQueue, SyncSchedules, blocking
from muskox.timed import AppSchedules, include_timed
from muskox.watch import follow

__all__ = ["Muskox", "SyncMuskox"]

L = TypeVar("L", bound=Listener)
S = TypeVar("S")


class Muskox(Running, Past):
    """A program's jobs: its queues, processors, schedules, listeners and workers, on one store.

    `url` says where the jobs are kept; without it `MUSKOX_URL` from the environment or `.env`, else
    `sqlite:///muskox.db`. Nothing is opened before it is needed; `async with ox:` closes at the end, as `close` does.
    `data_limit` is in bytes of JSON per job. `world` is for tests, see `muskox.testing`.
    """

    def __init__(self, url: str | None = None, *, data_limit: int = DATA_LIMIT, world: World | None = None) -> None:
        if url is not None and not isinstance(url, str):
            raise OptionError(f"url must be text such as 'sqlite:///jobs.db', not {type(url).__name__}")
        if data_limit < 1:
            raise OptionError(f"data_limit must be at least 1 byte, not {data_limit}")
        self.world: World = world or RealWorld()
        self._url = url
        self.data_limit = data_limit
        self.registry = Registry()
        """What the program has declared. For tools; programs declare with decorators."""
        self._queues: dict[str, AppQueue] = {}
        self._undeclared: set[str] = set()
        """The queues whose limits have not been put into the store."""
        self._stores: dict[asyncio.AbstractEventLoop | None, Store] = {}
        self._pid = os.getpid()
        self._inherited: list[Store] = []
        self._bridge = Bridge()
        self.schedules = AppSchedules(
            self.store, self.queue, self.world, self.registry.schedules, self.registry.is_orphan
        )
        """The schedules of the store, which can be changed while workers run."""
        self.schedules.sync = SyncSchedules(self.schedules, self._bridge)
        self.flows = AppFlows(self.store, self._new_store, self.world)
        """The flows and batches of the store."""
        self.flows.sync = SyncFlows(self.flows, self._bridge)
        self.sync = SyncMuskox(self, self._bridge)
        """The same verbs for blocking code."""

    def __repr__(self) -> str:
        return f"<Muskox {masked(self.url)}>"

    @property
    def url(self) -> str:
        """Where the jobs are kept, password and all; for people use `repr` of the app."""
        if self._url is None:
            self._url = find_url()
        return self._url

    # --- declaring ---------------------------------------------------------------

    def queue(self, name: str, *, retention: Retention | None = None, **limits: Unpack[LimitOptions]) -> AppQueue:
        """The queue of that name, the same object each time; `retention` sets how long ended jobs are kept.

        `rate` and `concurrency` limit how many of its jobs start in some time and run at once, over all workers,
        `key_rate` and `key_concurrency` those of each key; None says that there is no such limit. They are put into
        the store when it is next used, unless that was done before: what was changed there since stays.
        """
        if name not in self._queues:
            self._queues[name] = AppQueue(
                name,
                store=self._new_store,
                world=self.world,
                defaults=self.registry.find,
                data_limit=self.data_limit,
                declare=self._declare,
                registry=self.registry,
                sync=lambda queue: SyncQueue(queue, self._bridge),
            )
            self._queues[name].tracing = self.registry.tracing
        if retention is not None:
            if not isinstance(retention, Retention):
                raise OptionError(f"retention must be a Retention, not {retention!r}")
            self.registry.keep(name, retention)
        if limits:
            self.registry.limit(name, read_limits(limits))
            self._undeclared.add(name)
        return self._queues[name]

    def queues(self) -> list[AppQueue]:
        """The queues that this program has named so far, by `queue` or by processors."""
        return [self.queue(name) for name in dict.fromkeys([*self._queues, *self.registry.queues()])]

    def include(self, processor: Processor) -> None:
        """Declare the processors and listeners that are marked in an instance of a processor class."""
        include(self.registry, processor)
        include_timed(self.registry, processor, self.data_limit)

    def on(self, kind: str, *, queue: str | None = None) -> Callable[[L], L]:
        """Declare the decorated function as a listener for a kind of event, of one queue or of all.

        Facts about runs are heard once, by the worker that ran the job; those of other origin (waiting, delayed,
        paused …) by every worker program that declares such a listener. What a listener raises harms nothing.
        """
        check_kind(kind)
        if queue is not None:
            check_queue_name(queue)

        def listen(listener: L) -> L:
            self.registry.listen(kind, queue, listener)
            return listener

        return listen

    def trace(self, tracing: Tracing | None) -> None:
        """Have jobs followed from the adding to their runs, or with None no longer; for tools such as `contrib.otel`.

        Workers that are at work already are not told.
        """
        self.registry.tracing = tracing
        for queue in self._queues.values():
            queue.tracing = tracing

    # --- adding ------------------------------------------------------------------

    async def add_many(self, jobs: Iterable[NewJob], *, patience: float | timedelta = PATIENCE) -> list[Job]:
        """Store jobs of any queues, made by their `new`: all or none, in one round trip, in that order.

        `patience` is for how many seconds it waits for room where a queue is full and says so.
        """
        new = list(jobs)
        strange = [job for job in new if not isinstance(job, NewJob)]
        if strange:
            raise OptionError(f"add_many takes jobs that were made by a queue's new(), not {type(strange[0]).__name__}")
        if not new:
            return []
        tracing = self.registry.tracing
        with nullcontext(new) if tracing is None else followed(tracing, new) as new:
            return [added.job for added in await add_patiently(await self.store(), self.world, new, patience)]

    def batch(self, id: str | None = None, *, completed: NewJob | None = None, settled: NewJob | None = None) -> Batch:
        """A batch to be filled piece by piece: `async with ox.batch("newsletter-7") as batch: …`.

        `completed` is a job that is added once all jobs of it have been completed, `settled` one that is added once
        all have ended; each once, and not before the batch is closed. A known id goes on with that batch.
        """
        return Batch(new_batch(self.world.new_id() if id is None else id, completed, settled), self.store)

    # --- looking -----------------------------------------------------------------

    async def counts(self) -> list[QueueCounts]:
        """The figures of all queues that ever had a job."""
        return await (await self.store()).counts()

    async def explain(self, id: str) -> Explanation:
        """Why a job does not run, and when it will, or what became of it, in whichever queue it is.

        Raises `JobNotFound`, and `OptionError` where several queues have a job of that id: ask the queue then.
        """
        return await explain_anywhere(await self.store(), check_id(id))

    async def workers(self) -> list[WorkerRecord]:
        """The workers that are alive, in whichever process."""
        return await (await self.store()).workers()

    async def examine(self) -> list[Check]:
        """What can be said about the store's server or file and its settings, with remedies."""
        return await (await self.store()).examine()

    async def audit(self) -> list[Finding]:
        """Compare everything the store keeps up with a full scan; returns what does not fit. Slow."""
        return await (await self.store()).audit()

    async def migrate(self) -> list[str]:
        """Bring the store's tables up to date, which opening it does too; returns what was done."""
        return await (await self.store()).migrate()

    async def move_to(self, other: Muskox, *, ended: bool = False) -> Moved:
        """Carry the jobs of this store to that of another app: waiting, delayed and failed ones, as they are.

        With `ended` completed and cancelled ones too. No worker may live on this store, and the queues are paused in
        both until the end; interrupted, it goes on where it was when it is asked for again. Raises `WrongState` when
        it cannot be begun yet.
        """
        states = (*UNENDED, *ENDED) if ended else UNENDED
        return await move(await self.store(), await other.store(), self.world, states=states)

    def events(
        self, *, queue: str | None = None, after: int | None = None, kinds: Collection[str] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Follow what happens, in whichever process; see `Queue.events`."""
        return follow(self.store, self.world, queue=queue, after=after, kinds=kinds)

    # --- the store ---------------------------------------------------------------

    async def store(self) -> Store:
        """The store, opened if it was not. For tools; programs use queues."""
        store = self._new_store()
        await store.open()
        await self._declare(store)
        return store

    async def _declare(self, store: Store) -> None:
        for name in [*self._undeclared]:
            await store.limit(name, self.registry.limits[name], declared=True)
            self._undeclared.discard(name)

    def _new_store(self) -> Store:
        """The store for where we are: one for all, or one per event loop where a store is bound to its loop."""
        if self._pid != os.getpid():
            # A forked child has no threads of its parent, and may not even close the connections that it inherits:
            # they are kept, so that nothing else closes them.
            self._inherited, self._stores, self._pid = [*self._stores.values()], {}, os.getpid()
        loop = _running_loop()
        for known in (None, loop):
            if known in self._stores:
                return self._stores[known]
        store = open_store(self.url, self.world)
        if not store.traits.loop_bound:
            return self._stores.setdefault(None, store)
        if loop is None:  # good for adding within a transaction of the caller's, for which nothing is opened
            return store
        for other in [other for other in self._stores if other is not None and other.is_closed()]:
            self._stores.pop(other, None)
        return self._stores.setdefault(loop, store)

    def wrap_store(self, wrap: Callable[[Store], S]) -> S:
        """Put something before the store until `close`, as tests do: `flaky = ox.wrap_store(FlakyStore)`."""
        store = self._new_store()
        if store.traits.loop_bound:
            raise OptionError(
                "this store has an object for each event loop, so none can be wrapped; use SQLite for that"
            )
        wrapped = wrap(store)
        self._stores = {None: cast(Store, wrapped)}
        return wrapped

    async def close(self) -> None:
        """Let go of everything that was opened, threads too; the app may be used again afterwards."""
        stores, self._stores = self._stores, {}
        self._undeclared = set(self.registry.limits)
        for loop, store in stores.items():
            if loop is None or loop is asyncio.get_running_loop():
                await store.close()
            elif loop.is_running():  # it can be closed in its own loop only
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(store.close(), loop))
        await self._bridge.let_go()

    async def __aenter__(self) -> Self:
        await self.store()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class SyncMuskox(Blocking[Muskox]):
    """The verbs of the app for blocking code: `ox.sync.counts()`."""

    add_many = blocking(Muskox.add_many)

    def batch(
        self, id: str | None = None, *, completed: NewJob | None = None, settled: NewJob | None = None
    ) -> SyncBatch:
        """See `Muskox.batch`."""
        return SyncBatch(self.inner.batch(id, completed=completed, settled=settled), self.bridge)

    counts = blocking(Muskox.counts)
    history = blocking(Muskox.history)
    explain = blocking(Muskox.explain)
    workers = blocking(Muskox.workers)
    examine = blocking(Muskox.examine)
    audit = blocking(Muskox.audit)
    migrate = blocking(Muskox.migrate)
    move_to = blocking(Muskox.move_to)

    def events(
        self, *, queue: str | None = None, after: int | None = None, kinds: Collection[str] | None = None
    ) -> Iterator[Event]:
        """Follow what happens, blocking between events; see `Queue.events`."""
        return self.bridge.follow(self.inner.events(queue=queue, after=after, kinds=kinds))

    def close(self) -> None:
        """Let go of everything that was opened, threads too."""
        self.bridge.run(self.inner.close())
        self.bridge.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
