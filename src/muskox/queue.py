"""A queue as programs see it: add jobs, look at them, manage them, watch them.

It runs no job and loads nothing of what does. All rules are in the core, all
data in the store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, Protocol, TypedDict, Unpack

import msgspec

from muskox.core import codec, dedup
from muskox.core.backoff import Backoff
from muskox.core.dedup import Dedup
from muskox.core.errors import OptionError
from muskox.core.events import Event
from muskox.core.job import (
    NO_OPTIONS,
    Job,
    JobState,
    NewJob,
    Options,
    check_id,
    check_job_name,
    check_queue_name,
    seconds,
)
from muskox.core.life import check_move
from muskox.core.seam import World
from muskox.core.tracing import Tracing, followed
from muskox.explaining import Explanation, explain, missing
from muskox.filling import PATIENCE, add_patiently
from muskox.many import BATCH, Many, names_of, read_states
from muskox.store.protocol import Found, LogLine, QueueCounts, Selection, Store
from muskox.watch import follow, wait_for_result

__all__ = ["AddOptions", "Defaults", "Item", "Queue"]

Item = NewJob | tuple[str, Any]
"""A job for `add_many`: what `Queue.new` made, or a name and its data."""


class AddOptions(TypedDict, total=False):
    """What may be said about a job when it is added; see `Queue.add`."""

    id: str | None
    priority: int | None
    delay: float | timedelta
    at: datetime | None
    attempts: int | None
    backoff: Backoff | None
    timeout: float | timedelta | None
    max_stalls: int | None
    keep_for: float | timedelta | None
    expires_in: float | timedelta | None
    dedup: Dedup | str | None
    key: str | None


class Defaults(Protocol):
    """What a processor's declaration says for jobs that leave it open."""

    @property
    def options(self) -> Options: ...

    @property
    def priority(self) -> int: ...


class Queue(Many):
    """A named line of jobs. Made by `Muskox.queue`; cheap, and good for any number of tasks at once."""

    def __init__(
        self,
        name: str,
        *,
        store: Callable[[], Store],
        world: World,
        defaults: Callable[[str, str], Defaults | None],
        data_limit: int,
        declare: Callable[[Store], Awaitable[None]] | None = None,
    ) -> None:
        self.name = check_queue_name(name)
        self._declare_limits = declare
        self._store = store
        self._world = world
        self._defaults = defaults
        self._data_limit = data_limit
        self.tracing: Tracing | None = None
        """Who follows jobs that are added; set by `Muskox.trace`."""

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    async def _open(self) -> Store:
        store = self._store()
        await store.open()
        if self._declare_limits is not None:
            await self._declare_limits(store)
        return store

    # --- add ---------------------------------------------------------------------

    def new(self, name: str, data: Any = None, **options: Unpack[AddOptions]) -> NewJob:
        """Make a job to be added later, with `add_many`; takes what `add` takes and checks it the same way."""
        if type(name) is not str:  # else it is checked with the rest
            check_job_name(name)
        wanted, priority, delay = NO_OPTIONS, None, 0.0
        if options:  # most jobs say nothing for themselves, and many are added at once
            wanted, priority = _options(options), options.get("priority")
            delay = self._delay(options.get("delay", 0.0), options.get("at"))
        declared = self._defaults(self.name, name)
        if declared is not None:
            wanted = wanted.over(declared.options)
            priority = declared.priority if priority is None else priority
        if delay > 0 and wanted.expires_in is not None and delay >= wanted.expires_in:
            raise OptionError(
                f"expires_in={wanted.expires_in:g} counts from the adding and is over before the delay of {delay:g} "
                "seconds; give more"
            )
        if self.tracing is not None and (trace := self.tracing.current()) is not None:
            wanted = msgspec.structs.replace(wanted, trace=trace)
        return NewJob(
            id=self._world.new_id() if (id := options.get("id")) is None else id,
            queue=self.name,
            name=name,
            data=codec.encode(data, limit=self._data_limit),
            priority=0 if priority is None else priority,
            delay=delay,
            options=wanted,
            key=options.get("key"),
        )

    async def add(
        self,
        name: str,
        data: Any = None,
        *,
        within: Any = None,
        patience: float | timedelta = PATIENCE,
        **options: Unpack[AddOptions],
    ) -> Job:
        """Store a job and return it, waiting or delayed.

        `data` is anything JSON holds. Options: `id` (a known one adds nothing and returns the stored job),
        `priority` (higher runs sooner, default 0), `delay` (seconds or timedelta) or `at` (an aware datetime),
        `attempts` (runs in all, default 1), `backoff`, `timeout`, `max_stalls`, `keep_for` (seconds to keep it
        after its end; 0 removes it at once), `expires_in` (seconds from now within which it must begin, else it
        fails), `dedup` (a `Dedup`, or its key alone: at most one such job at a time, see there), `key` (text that
        groups it with others for the queue's limits per key; keys take turns). What is left out follows the processor's
        declaration. `within` is an open connection or session on the store's database, in whose transaction it is.
        Raises `OptionError`, `DataError`, and `QueueFull` where `max_waiting` jobs wait already, after `patience`
        seconds where the queue says to wait; the store's errors leave open whether it is stored: repeat it with its id.
        """
        [job] = await self.add_many([self.new(name, data, **options)], within=within, patience=patience)
        return job

    async def add_many(
        self, items: Iterable[Item], *, within: Any = None, patience: float | timedelta = PATIENCE
    ) -> list[Job]:
        """Store all of the jobs or none, in one round trip; returns them in their order. See `add` for the rest."""
        jobs = self.prepare(items)
        if self.tracing is None or not jobs:
            return await self._add(jobs, within, patience)
        with followed(self.tracing, jobs) as jobs:
            return await self._add(jobs, within, patience)

    async def _add(self, jobs: list[NewJob], within: Any, patience: float | timedelta) -> list[Job]:
        if within is not None:
            return [added.job for added in await self._store_within().add(jobs, within=within)] if jobs else []
        store = await self._open()
        return [added.job for added in await add_patiently(store, self._world, jobs, patience)] if jobs else []

    def add_within(self, jobs: list[NewJob], connection: Any) -> list[Job]:
        """`add_many` with `within`, for jobs that were prepared: in the caller's thread and transaction."""
        store = self._store_within()
        if self.tracing is None or not jobs:
            return [added.job for added in store.add_within(jobs, connection)]
        with followed(self.tracing, jobs) as new:
            return [added.job for added in store.add_within(new, connection)]

    def _store_within(self) -> Store:
        """The store as it is, since opening it might wait for the very transaction that the caller holds."""
        store = self._store()
        if not store.traits.within:
            raise OptionError(
                "this store cannot add inside a transaction of yours; leave within= out, or use another store"
            )
        return store

    def prepare(self, items: Iterable[Item]) -> list[NewJob]:
        """Check what `add_many` was given and make jobs of it."""
        return [self._made(item) for item in items]

    def _made(self, item: Item) -> NewJob:
        if type(item) is tuple and len(item) == 2 and type(item[0]) is str:
            return self.new(*item)
        match item:
            case NewJob():
                if item.queue != self.name:
                    raise OptionError(
                        f"job {item.id} was made for queue {item.queue!r}; add it there, not to {self.name!r}"
                    )
                return item
            case (str(name), data):
                return self.new(name, data)
            case _:
                raise OptionError(f"add_many takes pairs of a name and its data, or what new() made, not {_kind(item)}")

    def _delay(self, delay: float | timedelta, at: datetime | None) -> float:
        if at is None:
            return seconds(delay, "delay")
        if delay:
            raise OptionError("delay and at both say when the job is due; give one of them")
        if not isinstance(at, datetime):
            raise OptionError(f"at must be an aware datetime, not {at!r}; give seconds from now as delay")
        if at.tzinfo is None:
            raise OptionError(
                f"at={at.isoformat()} has no time zone; give an aware datetime, such as datetime.now(UTC)"
            )
        return max(0.0, at.timestamp() - self._world.now())

    # --- look --------------------------------------------------------------------

    async def get(self, id: str) -> Job | None:
        """The job as it is now, or None."""
        [job] = await (await self._open()).get(self.name, [_id(id)])
        return job

    async def find(
        self,
        state: JobState | str | Collection[JobState | str] | None = None,
        *,
        name: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Found:
        """A page of jobs in some state (None: any) and the cursor to give as `after` for the next page.

        State by state, and in each: waiting ones name by name in the order in which they run, delayed ones by when
        they are due, ended ones latest first.
        """
        if not 1 <= limit <= BATCH:
            raise OptionError(f"limit must be between 1 and {BATCH}, not {limit}; go on with the cursor")
        chosen = Selection(self.name, states=read_states(state), names=names_of(name), limit=limit)
        return await (await self._open()).find(chosen, after=after)

    async def counts(self) -> QueueCounts:
        """How many jobs are in each state, in all and per name."""
        [counts] = await (await self._open()).counts([self.name])
        return counts

    async def explain(self, id: str) -> Explanation:
        """Why the job does not run, and when it will, or what became of it; raises `JobNotFound`."""
        return await explain(await self._open(), self.name, _id(id))

    async def logs(self, id: str, *, after: int = 0) -> list[LogLine]:
        """The log lines of a job with numbers above `after`."""
        return await (await self._open()).logs(self.name, _id(id), after=after)

    async def result(self, id: str, timeout: float | timedelta | None = None) -> Any:
        """Wait until the job is completed and give what its processor returned.

        Raises `JobFailed`, `JobCancelled`, `ResultTimeout` after `timeout` seconds, `JobNotFound`. A store that
        gives no answer for a while is asked again within the timeout.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        return await wait_for_result(await self._open(), self._world, self.name, _id(id), limit)

    def events(self, *, after: int | None = None, kinds: Collection[str] | None = None) -> AsyncGenerator[Event, None]:
        """Follow what happens in this queue, in whichever process: `async for event in queue.events(): …`.

        `after` is the offset of the last event that was seen; without it, from the moment the first is asked for.
        """
        return follow(self._open, self._world, queue=self.name, after=after, kinds=kinds)

    # --- manage ------------------------------------------------------------------

    async def update(self, id: str, data: Any) -> Job:
        """Replace the data of a job that has not been completed or cancelled."""
        text = codec.encode(data, limit=self._data_limit)
        job = await (await self._open()).update(self.name, _id(id), text)
        if job is None:
            raise missing(self.name, id)
        check_move("update", job)
        return job

    async def retry(self, id: str) -> Job:
        """Let a failed or cancelled job run once more; raises `WrongState` for one in another state."""
        return await self._move("retry", id, lambda store: store.retry(Selection(self.name, ids=(_id(id),))))

    async def promote(self, id: str) -> Job:
        """Let a delayed job wait now; raises `WrongState` for one in another state."""
        return await self._move("promote", id, lambda store: store.promote(Selection(self.name, ids=(_id(id),))))

    async def cancel(self, id: str) -> Job:
        """End a job that has not ended; a run is told to stop and what it settles later changes nothing."""
        return await self._move("cancel", id, lambda store: store.cancel(Selection(self.name, ids=(_id(id),))))

    async def remove(self, id: str) -> bool:
        """Delete a job in whatever state; returns whether it was there."""
        return await (await self._open()).remove(Selection(self.name, ids=(_id(id),))) == 1

    async def pause(self) -> None:
        """Have no job of this queue claimed until `resume`; holds over restarts. Running jobs go on."""
        await (await self._open()).pause(self.name, True)

    async def resume(self) -> None:
        """Have jobs of this queue claimed again."""
        await (await self._open()).pause(self.name, False)

    async def _move(self, verb: str, id: str, move: Callable[[Store], Awaitable[int]]) -> Job:
        store = await self._open()
        moved = await move(store)
        [job] = await store.get(self.name, [id])
        if job is None:
            raise missing(self.name, id)
        if not moved:
            check_move(verb, job)
        return job


def _id(given: str) -> str:
    if not isinstance(given, str):
        raise OptionError(f"a job is named by its id, a text, not by a {type(given).__name__}; give job.id")
    return check_id(given)


def _options(given: AddOptions) -> Options:
    unknown = given.keys() - AddOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(AddOptions.__annotations__)
        raise OptionError(f"there is no option {min(unknown)!r} for a job; the options are {known}")
    timeout, keep_for, expires_in = given.get("timeout"), given.get("keep_for"), given.get("expires_in")
    return Options(
        attempts=given.get("attempts"),
        backoff=given.get("backoff"),
        timeout=None if timeout is None else seconds(timeout, "timeout"),
        max_stalls=given.get("max_stalls"),
        keep_for=None if keep_for is None else seconds(keep_for, "keep_for"),
        expires_in=None if expires_in is None else seconds(expires_in, "expires_in"),
        dedup=dedup.read(given.get("dedup")),
    )


def _kind(item: object) -> str:
    # Never the item itself: it may hold what no log should show.
    return f"{type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else type(item).__name__
