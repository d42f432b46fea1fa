"""The SQLite store: each verb of the protocol as one step on one of two lines.

The writing line holds the only writing connection of the process, the reading
line one that only looks; in memory both are the same. What the steps do is
in the modules beside this one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from muskox.core.events import Event, Trimmed
from muskox.core.flows import FlowJob, FlowRecord, NewFlow, Parent
from muskox.core.job import Job, JobState, Lease, NewJob, Retention
from muskox.core.kept import Entry
from muskox.core.life import Settlement
from muskox.core.limits import KeyLimits, Limits
from muskox.core.seam import World
from muskox.core.twins import are_any
from muskox.store.protocol import (
    Added,
    Change,
    Check,
    Finding,
    Firing,
    Found,
    FoundFlows,
    KeyState,
    LogLine,
    Looked,
    Note,
    Packed,
    QueueCounts,
    QueueLimits,
    Recovered,
    Selection,
    Standing,
    Traits,
    Want,
    WorkerRecord,
)
from muskox.store.sqlite import (
    adding,
    bounds,
    examining,
    flows,
    hand,
    limiting,
    looks,
    moves,
    moving,
    schedules,
    select,
    upkeep,
)
from muskox.store.sqlite.audit import audit
from muskox.store.sqlite.claim import claim
from muskox.store.sqlite.database import Location, parse, prepare, translate
from muskox.store.sqlite.history import Past
from muskox.store.sqlite.hub import Hub
from muskox.store.sqlite.line import Line
from muskox.store.sqlite.schema import apply, upgrade
from muskox.store.sqlite.settle import Settling
from muskox.store.sqlite.tx import Tx
from muskox.store.sqlite.within import borrow, borrow_async, is_asynchronous

__all__ = ["SqliteStore", "connect"]

T = TypeVar("T")

LONE = 8
"""So few jobs are added in the caller's thread when nobody else is writing."""


MOST_TICKETS = 64
"""Claims that are remembered, of the last ones; a worker has two on their way at most."""

POLL = 1.0
"""Seconds after which those who wait for events look for themselves, whatever the hints say."""


def connect(url: str, world: World) -> SqliteStore:
    """Make the store for a `sqlite:` URL; see `database.parse` for its forms."""
    return SqliteStore(parse(url), world)


class SqliteStore(Past):
    """A store in one file, or in memory where it is the fake of all tests. Fit for any number of event loops."""

    def __init__(self, location: Location, world: World) -> None:
        # Nobody else can have a connection to a database in memory.
        self.traits = Traits(loop_bound=False, within=location.path is not None)
        self._location = location
        self._world = world
        self._hub = Hub(location)
        self._writer = Line(location, world, writing=True, begun=_catch_up, committed=self._committed)
        self._reader = self._writer if location.path is None else Line(location, world, writing=False)
        self._tickets: dict[tuple[str, str], list[Lease]] = {}
        self._goes_on: dict[str, int] = {}
        """Of queues with limits or keys, when more can be claimed just because time passes; said by the last claim."""
        self._opening = threading.Lock()
        self._opened = False

    # --- opening -----------------------------------------------------------------

    async def open(self) -> None:
        if not self._opened:
            await asyncio.to_thread(self._open)

    def _open(self) -> None:
        with self._opening:
            if not self._opened:
                prepare(self._location)
                self._writer.open(upgrade)
                if self._reader is not self._writer:
                    self._reader.open()
                self._opened = True

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._hub.close()
        self._reader.close()
        self._writer.close()

    async def migrate(self) -> list[str]:
        return await self._writer.run(lambda tx: apply(tx.db))

    def _committed(self, tx: Tx) -> None:
        if tx.woken or tx.told:
            self._hub.tell(tx.woken, events=tx.told)

    # --- the life of jobs --------------------------------------------------------

    async def add(self, jobs: Sequence[NewJob], *, within: Any = None) -> list[Added]:
        if within is not None:
            return await self._within_async(partial(bounds.add, jobs=jobs), within)
        lone = 0 < len(jobs) <= LONE and not are_any(jobs) and all(job.key is None for job in jobs)
        if lone and (added := self._writer.run_here(partial(bounds.add_lone, jobs=jobs))) is not None:
            return added
        return await self._writer.run(partial(bounds.add, jobs=jobs))

    def add_within(self, jobs: Sequence[NewJob], connection: Any) -> list[Added]:
        return self._within(partial(bounds.add, jobs=jobs), connection)

    def _within(self, step: Callable[[Tx], T], connection: Any) -> T:
        try:
            return borrow(connection, self._location, partial(self._step_on, step))
        except sqlite3.Error as error:
            raise translate(error, self._location) from error

    async def _within_async(self, step: Callable[[Tx], T], connection: Any) -> T:
        if not is_asynchronous(connection):
            return self._within(step, connection)
        try:
            return await borrow_async(connection, self._location, partial(self._step_on, step))
        except sqlite3.Error as error:
            raise translate(error, self._location) from error

    def _step_on(self, step: Callable[[Tx], T], db: sqlite3.Connection) -> T:
        """Do a step on a connection of the caller's, in the transaction that it has."""
        if not self._opened:
            # The caller may hold the lock that opening would wait for, so its own transaction makes the tables.
            apply(db)
        tx = Tx(db, self._world)
        tx.begin(locked=False)
        _catch_up(tx)
        answer = step(tx)
        tx.write()
        return answer

    async def claim(
        self, wants: Sequence[Want], *, limit: int, worker: str, lease: float, ticket: str = ""
    ) -> list[Job]:
        if ticket and (leases := self._tickets.get((worker, ticket))) is not None:
            return await self._writer.run(partial(moves.get_held, leases=leases))
        step = partial(claim, wants=wants, limit=limit, worker=worker, lease=lease)
        # Its jobs run while the next claim is made, which therefore must not be in the same transaction.
        claimed = await self._writer.run(step, last=True)
        jobs = claimed.jobs()
        if self._goes_on or claimed.moments:
            self._take_note([want.queue for want in wants], claimed.moments)
        if ticket:
            self._remember(worker, ticket, jobs)
        return jobs

    def _take_note(self, queues: Sequence[str], moments: Mapping[str, int | None]) -> None:
        """Remember until when nothing more comes of queues, for those who wait already and those who will."""
        for queue in queues:
            moment = moments.get(queue)
            before = self._goes_on.pop(queue, None)
            if moment is not None:
                self._goes_on[queue] = moment
                if moment != before:
                    self._hub.tell_in(queue, self._seconds_to(moment))

    def _seconds_to(self, moment: int) -> float:
        return max(0.0, moment / 1_000_000 - self._world.now())

    def _remember(self, worker: str, ticket: str, jobs: list[Job]) -> None:
        """Keep what a claim gave, for the case that it is said again: only by a caller here, in this process."""
        if len(self._tickets) >= MOST_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        self._tickets[worker, ticket] = [job.lease for job in jobs if job.lease is not None]

    async def settle(self, settlements: Sequence[Settlement], *, within: Any = None) -> list[Lease]:
        if within is not None:
            return await self._within_async(Settling(settlements, careful=True), within)
        return await self._writer.run(Settling(settlements))

    def settle_within(self, settlements: Sequence[Settlement], connection: Any) -> list[Lease]:
        return self._within(Settling(settlements, careful=True), connection)

    async def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        return await self._writer.run(partial(moves.renew, leases=leases, seconds=lease))

    async def annotate(self, notes: Sequence[Note]) -> list[Lease]:
        return await self._writer.run(partial(moves.annotate, notes=notes))

    async def promote(self, selection: Selection | None = None, *, limit: int = 1000) -> int:
        if selection is None:
            return await self._writer.run(partial(upkeep.promote_due, limit=limit))
        return await self._writer.run(partial(hand.promote, selection=selection))

    async def recover(self, *, limit: int = 1000) -> list[Recovered]:
        return await self._writer.run(partial(upkeep.recover, limit=limit))

    async def clear(self, rules: Mapping[str, Retention], *, limit: int = 1000) -> int:
        return await self._writer.run(partial(upkeep.clear, rules=rules, limit=limit))

    # --- by hand -----------------------------------------------------------------

    async def retry(self, selection: Selection) -> int:
        return await self._writer.run(partial(hand.retry, selection=selection))

    async def cancel(self, selection: Selection) -> int:
        return await self._writer.run(partial(hand.cancel, selection=selection))

    async def remove(self, selection: Selection) -> int:
        return await self._writer.run(partial(hand.remove_selected, selection=selection))

    async def update(self, queue: str, id: str, data: str) -> Job | None:
        return await self._writer.run(partial(hand.update, queue=queue, id=id, data=data))

    async def pause(self, queue: str, paused: bool) -> bool:
        return await self._writer.run(partial(hand.pause, queue=queue, paused=paused))

    # --- moving house ------------------------------------------------------------

    async def pack(self, queue: str, state: JobState, *, limit: int = 100) -> list[Packed]:
        return await self._reader.run(partial(moving.pack, queue=queue, state=state, limit=limit))

    async def adopt(self, jobs: Sequence[Packed]) -> list[Added]:
        return await self._writer.run(partial(moving.adopt, jobs=jobs))

    # --- schedules ---------------------------------------------------------------

    async def schedules(self, names: Sequence[str] = (), *, due: bool = False, limit: int = 1000) -> Looked:
        return await self._reader.run(partial(schedules.read, names=names, due=due, limit=limit))

    async def put_schedules(self, changes: Sequence[Change]) -> list[bool]:
        return await self._writer.run(partial(schedules.put, changes=changes))

    async def fire(self, firings: Sequence[Firing]) -> list[int | None]:
        return await self._writer.run(partial(schedules.fire, firings=firings))

    async def ledger(self, name: str, *, limit: int = 100) -> list[Entry]:
        return await self._reader.run(partial(schedules.ledger, name=name, limit=limit))

    # --- limits ------------------------------------------------------------------

    async def limit(self, queue: str, limits: Limits, *, declared: bool = False) -> bool:
        return await self._writer.run(partial(limiting.limit, queue=queue, limits=limits, declared=declared))

    async def limit_key(self, queue: str, key: str, limits: KeyLimits | None) -> None:
        await self._writer.run(partial(limiting.limit_key, queue=queue, name=key, limits=limits))

    async def limits(self, queue: str) -> QueueLimits:
        return await self._reader.run(partial(limiting.look, queue=queue))

    async def keys(
        self, queue: str, names: Sequence[str] | None = None, *, after: str = "", limit: int = 100
    ) -> list[KeyState]:
        return await self._reader.run(
            partial(limiting.look_at_keys, queue=queue, names=names, after=after, limit=limit)
        )

    async def hold(self, queue: str, seconds: float, *, key: str | None = None) -> None:
        await self._writer.run(partial(limiting.hold, queue=queue, seconds=seconds, key=key))

    # --- flows -------------------------------------------------------------------

    async def grow(self, flow: NewFlow, jobs: Sequence[FlowJob], *, within: Any = None) -> list[Added]:
        step = partial(flows.grow, flow=flow, jobs=jobs)
        return await (self._writer.run(step) if within is None else self._within_async(step, within))

    def grow_within(self, flow: NewFlow, jobs: Sequence[FlowJob], connection: Any) -> list[Added]:
        return self._within(partial(flows.grow, flow=flow, jobs=jobs), connection)

    async def branch(self, lease: Lease, jobs: Sequence[FlowJob]) -> list[Added] | None:
        return await self._writer.run(partial(flows.branch, lease=lease, jobs=jobs))

    async def close_flow(self, id: str) -> FlowRecord | None:
        return await self._writer.run(partial(flows.close, id=id))

    async def cancel_flow(self, id: str, *, limit: int = 1000) -> int:
        return await self._writer.run(partial(flows.cancel, id=id, limit=limit))

    async def retry_flow(self, id: str, *, limit: int = 1000) -> int:
        return await self._writer.run(partial(flows.retry, id=id, limit=limit))

    async def flows(
        self, ids: Sequence[str] | None = None, *, unended: bool = False, after: str | None = None, limit: int = 100
    ) -> FoundFlows:
        return await self._reader.run(partial(flows.flows, ids=ids, unended=unended, after=after, limit=limit))

    async def flow_jobs(
        self, id: str, *, states: Sequence[JobState] = (), after: str | None = None, limit: int = 100
    ) -> Found:
        return await self._reader.run(partial(flows.flow_jobs, id=id, states=states, after=after, limit=limit))

    async def parents(self, queue: str, id: str) -> list[Parent]:
        return await self._reader.run(partial(select.parents, queue=queue, id=id))

    # --- looking -----------------------------------------------------------------

    async def get(self, queue: str, ids: Sequence[str]) -> list[Job | None]:
        return await self._reader.run(partial(moves.get, queue=queue, ids=ids))

    async def find(self, selection: Selection, *, after: str | None = None) -> Found:
        return await self._reader.run(partial(select.find, selection=selection, after=after))

    async def standing(self, queue: str, id: str, *, names: Collection[str] | None, most: int) -> Standing | None:
        return await self._reader.run(partial(limiting.standing, queue=queue, id=id, names=names, most=most))

    async def logs(self, queue: str, id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        return await self._reader.run(partial(looks.logs, queue=queue, id=id, after=after, limit=limit))

    async def counts(self, queues: Sequence[str] = ()) -> list[QueueCounts]:
        return await self._reader.run(partial(looks.counts, queues=queues))

    async def workers(self) -> list[WorkerRecord]:
        return await self._reader.run(looks.workers)

    async def examine(self) -> list[Check]:
        return await self._reader.run(partial(examining.examine, location=self._location))

    async def audit(self) -> list[Finding]:
        return await self._reader.run(audit)

    # --- hints, events, workers --------------------------------------------------

    async def wait(self, queues: Sequence[str], *, seconds: float) -> None:
        bell = self._hub.bell(queues)
        moments = [self._goes_on[queue] for queue in queues if queue in self._goes_on]
        if moments:
            seconds = min(seconds, self._seconds_to(min(moments)))
        await bell.wait(seconds)

    async def events(
        self, *, after: int, queue: str | None = None, limit: int = 1000, seconds: float = 0.0
    ) -> list[Event]:
        step = partial(looks.events, after=after, queue=queue, limit=limit)
        until = self._world.monotonic() + seconds
        while True:
            bell = self._hub.bell()
            try:
                found, behind = await self._reader.run(step)
                if behind and (not found or isinstance(found[0], Trimmed)):
                    await self._writer.run(_catch_up)  # which it has done by then
                    found, _ = await self._reader.run(step)
            except BaseException:
                self._hub.drop(bell)
                raise
            left = until - self._world.monotonic()
            if found or left <= 0:
                self._hub.drop(bell)
                return found
            await bell.wait(min(left, POLL))

    async def publish(self, events: Sequence[Event]) -> None:
        await self._writer.run(partial(hand.publish, events=events))

    async def beat(self, worker: WorkerRecord, *, gone: bool = False) -> None:
        await self._writer.run(partial(hand.beat, worker=worker, gone=gone))


def _catch_up(tx: Tx) -> None:
    """Tell of the jobs that were only stored, and bring the figures up to date for the steps that come."""
    if tx.behind:
        adding.announce(tx)
        tx.write()
