"""The Redis and Valkey store: each verb of the protocol as one script, and what it gives as jobs.

What the scripts do is in `lua/`, how a job is kept on top of `lua/base.lua`,
and which keys there are in `keys.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from muskox.core.errors import StoreError
from muskox.core.events import Event, Trimmed
from muskox.core.job import DEFAULT_MAX_STALLS, Job, JobState, Lease, NewJob, Retention
from muskox.core.kept import Entry
from muskox.core.life import MOVES, Settlement, stall_delay
from muskox.core.seam import World
from muskox.core.twins import are_any
from muskox.store.protocol import (
    Added,
    Change,
    Check,
    Finding,
    Firing,
    Found,
    LogLine,
    Looked,
    Note,
    Packed,
    QueueCounts,
    Recovered,
    Selection,
    Standing,
    Traits,
    Want,
    WorkerRecord,
)
from muskox.store.redis import dedup, examining, looks, moving, schedules, settle
from muskox.store.redis.audit import audit
from muskox.store.redis.flows import FLOW_KEPT_US, FlowSteps
from muskox.store.redis.history import HistorySteps
from muskox.store.redis.hub import EVENTS, Hub
from muskox.store.redis.ids import Seen, long, packable, short
from muskox.store.redis.limits import LimitSteps
from muskox.store.redis.location import Location, parse
from muskox.store.redis.records import LETTER, Reader, added, events, groups
from muskox.store.redis.server import check, check_layout
from muskox.store.redis.trouble import outside

__all__ = ["RedisStore", "connect"]

POLL = 1.0
"""Seconds after which those who wait for events look for themselves, whatever the hints say."""

_MOST_LINES = 1000
_MOST_LINE = 4000
_FORGOTTEN = 3_600_000_000
_DELAYS = [int(stall_delay(stalls) * 1_000_000) for stalls in range(1, 9)]
"""What a job waits after its stalls, by their number; the last counts for all that follow."""


def connect(url: str, world: World) -> RedisStore:
    """Make the store for a Redis or Valkey URL; see `location.parse` for its forms."""
    return RedisStore(parse(url), world)


class RedisStore(LimitSteps, FlowSteps, HistorySteps):
    """A store on a Redis or Valkey server. Belongs to the event loop in which it is opened."""

    traits = Traits(loop_bound=True, within=False)

    def __init__(self, location: Location, world: World) -> None:
        super().__init__(location, world)
        self._hub = Hub(location, world, self._link.dialer, self._keys.hints, self._arm)
        self._seen = Seen()
        self._limited: set[str] = set()
        """Queues that were seen to have limits or keys, whose claims look at them."""
        self._opened = False

    # --- opening -----------------------------------------------------------------

    async def open(self) -> None:
        if self._opened:
            return
        try:
            await check(self._link)
            await check_layout(self._link, self._keys.meta)
        except StoreError:
            self._link.let_go()
            raise
        self._opened = True

    async def close(self) -> None:
        await self._hub.close()
        await self._link.close()

    async def migrate(self) -> list[str]:
        return []

    # --- the life of jobs --------------------------------------------------------

    async def add(self, jobs: Sequence[NewJob], *, within: Any = None) -> list[Added]:
        if within is not None:
            outside()
        if not jobs:
            return []
        if not are_any(jobs):
            asked = groups(jobs)
            answer = await self._lasting_step("add+" if any(group[-1] for group in asked) else "add", asked)
            if answer != 0:
                return added(jobs, answer)
        adding = dedup.Adding(jobs)
        if are_any(jobs) and (answer := await self._lasting_step("add_once", adding.asked)) != 0:
            return adding.answers(answer)
        # There is a bound to how many jobs wait in one of the queues.
        return adding.answers(await self._lasting_step("add_bounded", adding.asked))

    def add_within(self, jobs: Sequence[NewJob], connection: Any) -> list[Added]:
        outside()

    def settle_within(self, settlements: Sequence[Settlement], connection: Any) -> list[Lease]:
        outside()

    async def claim(
        self, wants: Sequence[Want], *, limit: int, worker: str, lease: float, ticket: str = ""
    ) -> list[Job]:
        wanted = _joined(wants)
        if not wanted or limit < 1:
            return []
        queues = [want[0] for want in wanted]
        asked = worker, int(lease * 1_000_000), limit, ticket, wanted
        while True:
            mark = self._hub.mark()
            step = "claim" if self._limited.isdisjoint(queues) else "claim+"
            answer = await self._step(step, asked)
            if answer is None:
                self._limited.update(queues)
                continue
            more, places, found, wakes, any_limits, stamps = answer
            if not any_limits:
                self._limited.clear()
            # Where nothing was found but what cancelled jobs left behind, there may be jobs beyond it.
            if found or not more:
                break
        if len(found) < 2 * limit and not more:
            self._hub.armed(queues, mark)
            self._hub.wake_in(queues, dict(zip(wakes[::2], wakes[1::2], strict=True)))
        ids, records = self._seen.read(found[::2]), found[1::2]
        arrivals: list[int | None] = [None] * len(ids)
        for place, stamp in zip(stamps[::2], stamps[1::2], strict=True):
            arrivals[place - 1] = int.from_bytes(stamp, "big")
        if not places:
            return list(map(Reader(queues[0]).job, ids, records, arrivals))
        readers = [Reader(queue) for queue in queues]
        return [readers[place - 1].job(*its) for place, *its in zip(places, ids, records, arrivals, strict=True)]

    async def settle(self, settlements: Sequence[Settlement], *, within: Any = None) -> list[Lease]:
        if within is not None:
            outside()
        if not settlements:
            return []
        settling = settle.Settling(settlements, self._seen)
        return settling.lost(await self._lasting_step(settling.step, settling.asked, settling.fences))

    async def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        if not leases:
            return []
        its, ordered = settle.leases_by_queue(leases)
        lost = await self._step("renew", (int(lease * 1_000_000), its), settle.fences(ordered))
        return [ordered[number - 1] for number in lost]

    async def annotate(self, notes: Sequence[Note]) -> list[Lease]:
        if not notes:
            return []
        rest = f"(more than {_MOST_LINES} lines: the rest was dropped)"
        lost = await self._step("annotate", (settle.notes(notes, longest=_MOST_LINE), _MOST_LINES, rest))
        return [notes[number - 1].lease for number in lost]

    async def promote(self, selection: Selection | None = None, *, limit: int = 1000) -> int:
        if selection is None:
            moved, is_late = await self._step("promote_due", (limit,))
            if is_late:
                await self._step("expire", (limit,))
            return int(moved)
        return await self._move("promote", selection)

    async def recover(self, *, limit: int = 1000) -> list[Recovered]:
        found = await self._step("recover", (limit, DEFAULT_MAX_STALLS, _DELAYS))
        return [
            Recovered(Reader(queue.decode()).job(long(id), record), worker.decode() or None)
            for queue, id, record, worker in zip(*(found[first::4] for first in range(4)), strict=True)
        ]

    async def clear(self, rules: Mapping[str, Retention], *, limit: int = 1000) -> int:
        own = {queue: _rule(rule) for queue, rule in rules.items()}
        return int(await self._step("clear", (limit, own, _rule(Retention()), FLOW_KEPT_US)))

    # --- by hand -----------------------------------------------------------------

    async def retry(self, selection: Selection) -> int:
        return await self._move("retry", selection)

    async def cancel(self, selection: Selection) -> int:
        return await self._move("cancel", selection)

    async def remove(self, selection: Selection) -> int:
        if selection.ids is None and not selection.states:
            others = tuple(state for state in JobState if state is not JobState.ACTIVE)
            selection = msgspec.structs.replace(selection, states=others)
        return await self._move("remove", selection)

    async def _move(self, verb: str, selection: Selection) -> int:
        """Move what the selection has in states that allow it, in as many steps as its size needs."""
        # Blocked ones first: those that wait in line make room for them when they go.
        asked = sorted(selection.states or JobState, key=lambda state: state is not JobState.BLOCKED)
        states = "".join(LETTER[state] for state in asked if verb == "remove" or state in MOVES[verb])
        if not states or selection.limit < 1:
            return 0
        total: int = 0
        position: tuple[Any, ...] = (1, 1, 0)
        while position[0] and total < selection.limit:
            ids = False if selection.ids is None else [packable(id) for id in selection.ids]
            names = list(selection.names) or False
            left = selection.limit - total
            moved, *place = await self._step(verb, (selection.queue, ids, states, names, left, *position))
            total, position = total + moved, tuple(place)
        return total

    async def update(self, queue: str, id: str, data: str) -> Job | None:
        states = "".join(LETTER[state] for state in MOVES["update"])
        record = await self._step("update", (queue, packable(id), data, states))
        return Reader(queue).job(id, record) if record else None

    async def pause(self, queue: str, paused: bool) -> bool:
        return bool(await self._step("pause", (queue, paused)))

    # --- moving house ------------------------------------------------------------

    async def pack(self, queue: str, state: JobState, *, limit: int = 100) -> list[Packed]:
        return moving.packed_jobs(queue, await self._step("pack", (queue, LETTER[state], max(0, limit))))

    async def adopt(self, jobs: Sequence[Packed]) -> list[Added]:
        if not jobs:
            return []
        return moving.adopted(jobs, await self._lasting_step("adopt", [moving.travelling(one) for one in jobs]))

    # --- schedules ---------------------------------------------------------------

    async def schedules(self, names: Sequence[str] = (), *, due: bool = False, limit: int = 1000) -> Looked:
        asked = sorted(set(names)) or False, due, limit
        return schedules.looked(await self._step("schedules", asked), due=due, limit=limit)

    async def put_schedules(self, changes: Sequence[Change]) -> list[bool]:
        made = await self._lasting_step("put_schedules", schedules.changes(changes)) if changes else []
        return [one == 1 for one in made]

    async def fire(self, firings: Sequence[Firing]) -> list[int | None]:
        added = await self._lasting_step("fire", schedules.firings(firings)) if firings else []
        return [None if number < 0 else number for number in added]

    async def ledger(self, name: str, *, limit: int = 100) -> list[Entry]:
        found = await self._link.ask(b"LRANGE", self._keys.ledger(name), -limit, -1) if limit > 0 else []
        return schedules.entries(found)

    # --- looking -----------------------------------------------------------------

    async def get(self, queue: str, ids: Sequence[str]) -> list[Job | None]:
        if not ids:
            return []
        records = await self._link.ask(b"HMGET", self._keys.jobs(queue), *map(short, ids))
        reader = Reader(queue)
        return [reader.job(id, record) if record else None for id, record in zip(ids, records, strict=True)]

    async def find(self, selection: Selection, *, after: str | None = None) -> Found:
        states = selection.states or tuple(JobState)
        if selection.ids is not None:
            return Found(await self._find_by_ids(selection, selection.ids), None)
        place, ended = (0, None) if after is None else looks.read_cursor(after, states)
        names, reader, jobs = list(selection.names) or False, Reader(selection.queue), list[Job]()
        while place < len(states) and len(jobs) < selection.limit:
            left = selection.limit - len(jobs)
            asked = (selection.queue, LETTER[states[place]], names, left, looks.place_after(ended))
            rows, end = await self._step("find", asked)
            jobs += [reader.job(long(id), record) for id, record in zip(rows[::2], rows[1::2], strict=True)]
            place, ended = (place, looks.page_end(end)) if end else (place + 1, None)
        return Found(jobs, looks.write_cursor(place, ended or []) if place < len(states) else None)

    async def _find_by_ids(self, selection: Selection, ids: Sequence[str]) -> list[Job]:
        found = await self.get(selection.queue, list(dict.fromkeys(ids)))
        return [
            job
            for job in found
            if job is not None
            and (not selection.states or job.state in selection.states)
            and (not selection.names or job.name in selection.names)
        ]

    async def standing(self, queue: str, id: str, *, names: Collection[str] | None, most: int) -> Standing | None:
        asked = queue, packable(id), False if names is None else list(names), most
        return looks.standing(queue, id, await self._step("standing", asked))

    async def logs(self, queue: str, id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        if limit < 1:
            return []
        first = max(0, after)
        kept = await self._link.ask(b"LRANGE", self._keys.log(queue, id), first, first + limit - 1)
        return looks.log_lines(kept, first + 1)

    async def counts(self, queues: Sequence[str] = ()) -> list[QueueCounts]:
        now, found, told = await self._step("counts", (list(queues) or False, looks.ALIVE))
        return looks.counts(now, found, looks.workers(now, told))

    async def workers(self) -> list[WorkerRecord]:
        now, _, told = await self._step("counts", ([], looks.ALIVE))
        return looks.workers(now, told)

    async def examine(self) -> list[Check]:
        return await examining.examine(self._link, self._world.now())

    async def audit(self) -> list[Finding]:
        return await audit(self._link, self._keys)

    # --- hints, events, workers --------------------------------------------------

    async def wait(self, queues: Sequence[str], *, seconds: float) -> None:
        await self._hub.wait(queues, seconds)

    async def _arm(self, queues: Sequence[str]) -> list[str]:
        return [queue.decode() for queue in await self._step("listen", list(queues))]

    async def events(
        self, *, after: int, queue: str | None = None, limit: int = 1000, seconds: float = 0.0
    ) -> list[Event]:
        until = self._world.monotonic() + seconds
        while True:
            found, after = await self._read_events(after, queue, limit, hint=seconds > 0)
            left = until - self._world.monotonic()
            if found or left <= 0:
                return found
            await self._hub.bell([EVENTS]).wait(min(left, POLL))

    async def _read_events(self, after: int, queue: str | None, limit: int, *, hint: bool) -> tuple[list[Event], int]:
        """One page of facts, and after which offset there can be more."""
        found: list[Event] = []
        while True:
            mark = self._hub.mark()
            now, latest, first, records = await self._step("events", (after, min(limit, 1000), hint))
            if after < 0 or after > latest:
                return [Trimmed(queue or "", latest, now)], after
            if after + 1 < first:
                found.append(Trimmed(queue or "", first - 1, now))
            found += events(records, after, queue)
            if not records:
                self._hub.armed([EVENTS] if hint else [], mark)
                return found[:limit], after
            if found:
                return found[:limit], after
            after = int(records[-1][0].partition(b"-")[0])

    async def publish(self, events: Sequence[Event]) -> None:
        encode = msgspec.json.encode
        facts = [(event.queue, event.kind, encode([msgspec.structs.astuple(event)[3:]]).decode()) for event in events]
        if facts:
            await self._step("publish", facts)

    async def beat(self, worker: WorkerRecord, *, gone: bool = False) -> None:
        record = "" if gone else msgspec.json.encode(worker).decode()
        await self._step("beat", (worker.id, record, _FORGOTTEN))


def _joined(wants: Sequence[Want]) -> list[tuple[str, list[str] | bool, dict[str, int] | bool]]:
    """What is wanted by queue, all that is said of a queue taken together."""
    wanted: dict[str, Want] = {}
    for want in wants:
        known = wanted.get(want.queue, Want(want.queue, frozenset()))
        names = None if known.names is None or want.names is None else known.names | want.names
        wanted[want.queue] = Want(want.queue, names, known.max_stalls | want.max_stalls)
    return [
        (want.queue, False if want.names is None else sorted(want.names), want.max_stalls or False)
        for want in wanted.values()
    ]


def _rule(rule: Retention) -> tuple[int, int, int, int]:
    most = 2**53
    return (
        int(rule.completed_for * 1_000_000), min(int(rule.completed_most), most),
        int(rule.failed_for * 1_000_000), min(int(rule.failed_most), most),
    )  # fmt: skip
