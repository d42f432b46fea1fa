"""The PostgreSQL store: each verb of the protocol as one function of the database, called once.

The functions are in `migrations/`; here stands how they are asked and what
becomes of their answers. Connections are another module's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from muskox.core.events import Event, pack
from muskox.core.job import DEFAULT_MAX_STALLS, Job, JobState, Lease, NewJob, Retention
from muskox.core.life import MOVES, Complete, Settlement
from muskox.core.seam import World
from muskox.core.twins import are_any, are_timed
from muskox.store.postgres import adding, dedup, examining, moving, rows, settling
from muskox.store.postgres.adding import Lane
from muskox.store.postgres.bells import EVENTS
from muskox.store.postgres.claiming import Claiming
from muskox.store.postgres.flowing import Flowing
from muskox.store.postgres.history import Past
from muskox.store.postgres.limiting import Limiting
from muskox.store.postgres.location import Location, parse
from muskox.store.postgres.looks import Looks
from muskox.store.postgres.rows import NUMBER
from muskox.store.postgres.schedules import Scheduling
from muskox.store.postgres.within import Inside, Within
from muskox.store.protocol import (
    Added,
    Check,
    Finding,
    Found,
    LogLine,
    Note,
    Packed,
    QueueCounts,
    Recovered,
    Selection,
    Standing,
    Traits,
    WorkerRecord,
)

__all__ = ["PostgresStore", "connect"]

MOST_EVENTS = 100_000


def connect(url: str, world: World) -> PostgresStore:
    """Make the store for a `postgresql:` URL; see `location.parse` for its forms."""
    return PostgresStore(parse(url), world)


class PostgresStore(Claiming, Flowing, Limiting, Scheduling, Past, Inside):
    """A store in one schema of a database. Its connections belong to the event loop in which it was opened."""

    def __init__(self, location: Location, world: World) -> None:
        super().__init__(location, world)
        self.traits = Traits(loop_bound=True, within=True)
        self._location = location
        self._looks = Looks(self._schema)
        self._within = Within(location, self._schema, world, self._bells.channel, self._levels)
        self._opening = asyncio.Lock()
        self._opened = False

    # --- opening -----------------------------------------------------------------

    async def open(self) -> None:
        if self._opened:
            return
        async with self._opening:
            if not self._opened:
                try:
                    await self._connections.run(self._schema.prepare)
                except BaseException:
                    self._connections.let_go()  # who cannot open it will not close it either
                    raise
                self._opened = True

    async def close(self) -> None:
        await self._bells.close()
        await self._connections.close()

    async def migrate(self) -> list[str]:
        return await self._connections.run(self._schema.apply)

    # --- the life of jobs --------------------------------------------------------

    async def add(self, jobs: Sequence[NewJob], *, within: Any = None) -> list[Added]:
        if within is not None:
            return await self._within.add(jobs, within)
        if not jobs:
            return []
        if are_any(jobs) or are_timed(jobs):
            return await self._add_once(jobs)
        if adding.are_alike(jobs) and (added := await self._add_alike(jobs)) is not None:
            return added
        data = adding.data_of(jobs)
        lanes = await self._learn(adding.lanes_of(jobs))
        said, values = adding.step(jobs, data, lanes, now=self._now(), level=self._levels.add)
        while True:
            answer = await self._all(said, values)
            self._bells.ring(answer[0][-1])
            fresh, known = adding.read(jobs, answer)
            if not known:
                return fresh
            stored = await self._stored([jobs[place - 1] for place in known])
            if stored is not None:
                return adding.answers(jobs, fresh, known, stored)
            # Somebody has removed one of them in this moment: it can be stored now.

    async def _add_once(self, jobs: Sequence[NewJob]) -> list[Added]:
        """Add jobs of which some have a dedup key."""
        its = dedup.Adding(jobs)
        lanes = await self._learn(adding.lanes_of(jobs))
        while True:
            row = await self._one("add_once", (self._now(), self._levels.add, False, its.items(lanes), None))
            there = its.understand(row)
            self._bells.ring(row[-1])
            if (answers := its.answers(await self._there(there))) is not None:
                return answers
            # Somebody has removed one of them in this moment: it can be stored now.

    async def _add_alike(self, jobs: Sequence[NewJob]) -> list[Added] | None:
        """Add jobs that are alike by the short way; None if that cannot be, as when one is known."""
        lane = jobs[0].queue, jobs[0].name
        values = adding.alike(jobs, (await self._learn({lane}))[lane], now=self._now(), level=self._levels.add)
        answer = await self._connections.run(partial(adding.say_alike, self._schema["add_alike"], values))
        if answer is None:
            return None
        at, bells = msgspec.json.decode(answer)
        self._bells.ring(bells)
        return rows.added(jobs, at)

    async def settle(self, settlements: Sequence[Settlement], *, within: Any = None) -> list[Lease]:
        if within is not None:
            return await self._within.settle(settlements, within)
        lanes = await self._learn({(one.lease.queue, one.lease.name) for one in settlements})
        plain = [one for one in settlements if type(one) is Complete and settling.plain(one)]
        others = [one for one in settlements if not settling.plain(one)]
        tied = [one for one in plain if one.lease.tied]
        if tied:
            plain = [one for one in plain if not one.lease.tied]
        lost = await self._complete("complete", plain, lanes) if plain else []
        if tied:
            lost += await self._complete("complete_tied", tied, lanes)
        if others:
            values = self._now(), self._levels.settle, settling.items(others, lanes)
            places, bells = await self._one("settle", values)
            self._bells.ring(bells)
            lost += [others[place].lease for place in places]
        return lost

    async def _complete(
        self, said: str, done: Sequence[Complete], lanes: Mapping[tuple[str, str], Lane]
    ) -> list[Lease]:
        ordered, values = settling.completions(done, lanes)
        places, bells = await self._one(said, (self._now(), self._levels.settle, *values))
        self._bells.ring(bells)
        return [ordered[place - 1].lease for place in places or ()]

    async def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        if not leases:
            return []
        lanes = await self._learn({(one.queue, one.name) for one in leases})
        values = (
            self._now(), self._levels.claim, rows.ints(lanes[one.queue, one.name][0] for one in leases),
            rows.texts(one.job_id for one in leases), rows.ints(one.token for one in leases), int(lease * 1_000_000),
        )  # fmt: skip
        (places,) = await self._one("renew", values)
        return [leases[place - 1] for place in places]

    async def annotate(self, notes: Sequence[Note]) -> list[Lease]:
        if not notes:
            return []
        lanes = await self._learn({(note.lease.queue, note.lease.name) for note in notes})
        values = (
            self._now(), self._levels.claim, settling.notes(notes, lanes), settling.MOST_LINES, settling.FULL,
        )  # fmt: skip
        places, bells = await self._one("annotate", values)
        self._bells.ring(bells)
        return [notes[place].lease for place in places]

    async def promote(self, selection: Selection | None = None, *, limit: int = 1000) -> int:
        if selection is not None:
            return await self._change("promote", selection, _states("promote", selection))
        moved, bells = await self._one("promote", (self._now(), self._levels.move, limit))
        self._bells.ring(bells)
        return int(moved)

    async def recover(self, *, limit: int = 1000) -> list[Recovered]:
        found = await self._all("recover", (self._now(), self._levels.move, limit, DEFAULT_MAX_STALLS))
        if not found:
            return []
        self._bells.ring(found[0][3])
        values = rows.texts(row[0] for row in found), rows.texts(row[1] for row in found)
        jobs = {(job.queue, job.id): job for job in map(rows.full, await self._all("get_by_queue", values))}
        return [Recovered(jobs[queue, id], worker) for queue, id, worker, _ in found if (queue, id) in jobs]

    async def clear(self, rules: Mapping[str, Retention], *, limit: int = 1000) -> int:
        every = {**rules, "": Retention()}
        values = (
            self._now(), self._levels.move, rows.texts(every),
            rows.ints(int(rule.completed_for * 1_000_000) for rule in every.values()),
            rows.ints(int(rule.completed_most) for rule in every.values()),
            rows.ints(int(rule.failed_for * 1_000_000) for rule in every.values()),
            rows.ints(int(rule.failed_most) for rule in every.values()), limit, MOST_EVENTS,
        )  # fmt: skip
        (cleared,) = await self._one("clear", values)
        return int(cleared)

    # --- by hand -----------------------------------------------------------------

    async def retry(self, selection: Selection) -> int:
        return await self._change("retry", selection, _states("retry", selection))

    async def cancel(self, selection: Selection) -> int:
        return await self._change("cancel", selection, _states("cancel", selection))

    async def remove(self, selection: Selection) -> int:
        states = selection.states
        if selection.ids is None and not states:
            states = tuple(state for state in JobState if state is not JobState.ACTIVE)
        return await self._change("remove", selection, states or tuple(JobState))

    async def _change(self, verb: str, selection: Selection, states: Sequence[JobState]) -> int:
        if not states:
            return 0
        values = (
            self._now(), verb, selection.queue, None if selection.ids is None else rows.texts(selection.ids),
            rows.ints(NUMBER[state] for state in states), rows.texts(selection.names) if selection.names else None,
            selection.limit,
        )  # fmt: skip
        moved, bells = await self._one("change", values)
        self._bells.ring(bells)
        return int(moved)

    async def update(self, queue: str, id: str, data: str) -> Job | None:
        states = rows.ints(NUMBER[state] for state in MOVES["update"])
        (bells,) = await self._one("update_data", (self._now(), queue, id, data, states))
        self._bells.ring(bells)
        return (await self.get(queue, [id]))[0]

    async def pause(self, queue: str, paused: bool) -> bool:
        changed, bells = await self._one("pause", (self._now(), queue, paused))
        self._bells.ring(bells)
        return bool(changed)

    # --- moving house ------------------------------------------------------------

    async def pack(self, queue: str, state: JobState, *, limit: int = 100) -> list[Packed]:
        return await self._connections.run(
            partial(moving.pack, schema=self._schema, queue=queue, state=state, limit=limit)
        )

    async def adopt(self, jobs: Sequence[Packed]) -> list[Added]:
        if not jobs:
            return []
        lanes = await self._learn({(one.job.queue, one.job.name) for one in jobs})
        while True:
            places, states, bells = await self._one("adopt", (self._now(), moving.items(jobs, lanes)))
            self._bells.ring(bells)
            made = dict(zip(places, states, strict=True))
            others = [one.job for place, one in enumerate(jobs) if place not in made]
            stored = await self._stored(others) if others else {}
            if stored is not None:
                return [
                    Added(msgspec.structs.replace(one.job, state=rows.STATE[made[place]]), True)
                    if place in made
                    else Added(stored[one.job.queue, one.job.id], False)
                    for place, one in enumerate(jobs)
                ]
            # Somebody has removed one of them in this moment: it can be stored now.

    # --- looking -----------------------------------------------------------------

    async def get(self, queue: str, ids: Sequence[str]) -> list[Job | None]:
        return await self._connections.run(partial(self._looks.get, queue=queue, ids=ids)) if ids else []

    async def find(self, selection: Selection, *, after: str | None = None) -> Found:
        return await self._connections.run(partial(self._looks.find, selection=selection, after=after))

    async def standing(self, queue: str, id: str, *, names: Collection[str] | None, most: int) -> Standing | None:
        values = {"queue": queue, "id": id, "names": None if names is None else rows.texts(names), "most": most}
        return await self._connections.run(partial(self._looks.standing, values=values, now=self._now()))

    async def logs(self, queue: str, id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        return await self._connections.run(partial(self._looks.logs, queue=queue, id=id, after=after, limit=limit))

    async def counts(self, queues: Sequence[str] = ()) -> list[QueueCounts]:
        return await self._connections.run(partial(self._looks.counts, queues=queues, now=self._now()))

    async def workers(self) -> list[WorkerRecord]:
        return await self._connections.run(partial(self._looks.workers, now=self._now()))

    async def examine(self) -> list[Check]:
        return await self._connections.run(partial(examining.examine, location=self._location, now=self._world.now()))

    async def audit(self) -> list[Finding]:
        found = await self._connections.run(partial(self._looks.audit, now=self._now()))
        return found + await self._audit_schedules() + await self._audit_flows()

    # --- hints, events, workers --------------------------------------------------

    async def events(
        self, *, after: int, queue: str | None = None, limit: int = 1000, seconds: float = 0.0
    ) -> list[Event]:
        until = self._world.monotonic() + seconds
        while True:
            bell = self._bells.bell([EVENTS]) if seconds > 0 and after >= 0 else None
            try:
                if bell is not None:
                    await self._bells.expect([EVENTS])
                found = await self._connections.run(
                    partial(self._looks.events, after=after, queue=queue, limit=limit, now=self._now())
                )
                left = until - self._world.monotonic()
                if found or left <= 0 or bell is None:
                    return found
                await bell.wait(min(left, self._bells.poll))
            finally:
                if bell is not None:
                    self._bells.drop(bell)

    async def publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        values = (
            self._now(), rows.texts(event.queue for event in events), rows.texts(event.kind for event in events),
            rows.texts(rows.pure(pack([msgspec.structs.astuple(event)[3:]])) for event in events),
        )  # fmt: skip
        (bells,) = await self._one("publish", values)
        self._bells.ring(bells)

    async def beat(self, worker: WorkerRecord, *, gone: bool = False) -> None:
        record = None if gone else msgspec.json.encode(worker).decode()
        await self._one("beat", (self._now(), self._levels.claim, worker.id, record))


def _states(verb: str, selection: Selection) -> list[JobState]:
    return [state for state in selection.states or tuple(JobState) if state in MOVES[verb]]
