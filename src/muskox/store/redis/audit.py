"""Compares figures, indexes and records with a full scan. Slow on purpose; it mends nothing.

It reads in pieces while others go on, so it looks up to three times and tells
only of what it found each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from muskox.core.job import Job, JobState
from muskox.store.protocol import Finding
from muskox.store.redis import audit_flows, audit_keys, schedules
from muskox.store.redis.ids import long, longs, short
from muskox.store.redis.keys import Keys
from muskox.store.redis.link import Link
from muskox.store.redis.records import STATE, Reader

__all__ = ["audit"]

LOOKS = 3
_PIECE = 500

_ENDED = {
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
_NUMBERS = "WDBACFX"
_KEYED = frozenset({JobState.WAITING, JobState.BLOCKED, JobState.ACTIVE})
_BEHIND = b"B" + bytes(7)
"""Begins the record of a job that is blocked by its parents."""
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"


async def audit(link: Link, keys: Keys) -> list[Finding]:
    """What does not fit, if it does not fit for long."""
    found = await _look(link, keys)
    for _ in range(1, LOOKS):
        if not found:
            break
        again = set(await _look(link, keys))
        found = [finding for finding in found if finding in again]
    return found


async def _look(link: Link, keys: Keys) -> list[Finding]:
    found = await schedules.audit(link, keys)
    members, behind = list[Job](), set[tuple[str, str]]()
    for queue in await link.ask(b"ZRANGE", f"{keys.tag}queues", 0, -1):
        its = _Queue(link, keys, queue.decode())
        found += await its.look()
        members += its.members
        behind |= its.behind
    return found + await audit_flows.audit(link, keys, members, behind)


class _Queue:
    """The audit of one queue."""

    def __init__(self, link: Link, keys: Keys, name: str) -> None:
        self._link = link
        self._keys = keys
        self._name = name
        self._places: dict[str, set[bytes]] = {}
        """Per kind of index what it holds, as it stands there."""
        self._figures: Counter[tuple[str, str]] = Counter()
        self._lines_of_keys: dict[str, set[bytes]] = {}
        self._by_key: Counter[tuple[str, JobState]] = Counter()
        self._keyed: dict[str, Job] = {}
        """The jobs that say that they have a dedup key."""
        self.members: list[Job] = []
        """The jobs that are in a flow."""
        self.behind: set[tuple[str, str]] = set()
        """Queues and ids of those that are blocked by their parents."""
        self._timed: set[str] = set()
        """The jobs that nobody has begun with, and that have to be begun in time."""

    async def look(self) -> list[Finding]:
        for kind in ("delayed", "blocked", "until", *_ENDED.values(), *(f"own-{kind}" for kind in _ENDED.values())):
            self._places[kind] = set(await self._whole_set(f"{kind}:{self._name}"))
        self._places["line"] = {element async for element in self._lines()}
        self._places["active"] = await self._leases()
        kept = await self._kept_of_keys()
        seen: set[str] = set()
        found = []
        async for id, record in self._records():
            seen.add(long(id))
            found += self._look_at(id, record)
        active = sum(number for (state, _), number in self._figures.items() if state == JobState.ACTIVE.value)
        unfit = audit_keys.compare(kept, self._lines_of_keys, self._by_key, active)
        return [
            *found,
            *map(self._finding, unfit),
            *self._look_back(seen),
            *await self._compare_figures(),
            *await self._look_at_keys(),
            *await self._look_at_times(),
        ]

    # --- reading -------------------------------------------------------------------

    async def _whole_set(self, name: str) -> list[bytes]:
        members: list[bytes] = await self._link.ask(b"ZRANGE", f"{self._keys.tag}{name}", 0, -1)
        return members

    async def _lines(self) -> AsyncIterator[bytes]:
        for line in await self._whole_set(f"open:{self._name}"):
            name = f"{self._name}:{line.decode()}"
            for element in await self._whole_set(f"early:{name}"):
                yield element
            first = 0
            while piece := await self._link.ask(
                b"LRANGE", f"{self._keys.tag}line:{name}", first, first + _PIECE * 10 - 1
            ):
                first += len(piece)
                for element in piece:
                    yield element

    async def _leases(self) -> set[bytes]:
        """Fence and id of all that claims and renewed leases concern, and of some that are settled by now."""
        held = set(await self._whole_set(f"leases:{self._name}"))
        claims = await self._hash(f"claims:{self._name}")
        for first in await self._whole_set(f"active:{self._name}"):
            ids = longs(claims.get(first, b"\x90"))
            for fence, id in enumerate(ids, int.from_bytes(first, "big")):
                held.add(fence.to_bytes(7, "big") + short(id))
        return held

    async def _hash(self, name: str) -> dict[bytes, bytes]:
        told = await self._link.ask(b"HGETALL", f"{self._keys.tag}{name}")
        return told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))

    async def _kept_of_keys(self) -> audit_keys.Kept:
        keys = await self._hash(f"keys:{self._name}")
        names, times, idle = [
            set(await self._whole_set(f"{kind}:{self._name}")) for kind in ("key-names", "key-times", "key-idle")
        ]
        for key in [key.decode() for key in keys.keys() | names]:
            self._lines_of_keys[key] = set(await self._whole_set(f"key-line:{self._name}:{key}"))
        limits = await self._hash("limits")
        rule, active = limits.get(self._name.encode()), limits.get(f"{self._name}:active".encode())
        walks = f"{self._name}:walk".encode() in limits
        return audit_keys.Kept(keys, names, times, idle, rule, None if active is None else int(active), walks)

    async def _records(self) -> AsyncIterator[tuple[bytes, bytes]]:
        cursor: Any = b"0"
        while True:
            cursor, pairs = await self._link.ask(b"HSCAN", self._keys.jobs(self._name), cursor, b"COUNT", _PIECE)
            for id, record in zip(pairs[::2], pairs[1::2], strict=True):
                yield id, record
            if int(cursor) == 0:
                return

    # --- comparing -----------------------------------------------------------------

    def _look_at(self, id: bytes, record: bytes) -> list[Finding]:
        name = long(id)
        try:
            job = Reader(self._name).job(name, record)
        except Exception as error:  # noqa: BLE001 - whatever a damaged record does to its reader is what is looked for
            return [self._finding(f"its record is damaged: {error}", name)]
        self._figures[STATE[record[:1]].value, job.name] += 1
        if job.options.expires_in is not None and not job.settled and job.started_us is None:
            self._timed.add(name)
        if job.options.dedup is not None:
            self._keyed[name] = job
        if job.key is not None and job.state in _KEYED and record[:8] != _BEHIND:
            self._by_key[job.key, job.state] += 1
        if job.flow is not None:
            self.members.append(job)
        found = []
        if _UNREADABLE in job.data_text + (job.result_text or "") and _UNREADABLE.encode() not in record:
            found.append(self._finding("its record is damaged: its data or result is no text", name))
        if not self._in_its_place(id, record, job):
            found.append(self._finding(f"{job.state} and not where jobs of that state are kept", name))
        if job.state is JobState.ACTIVE and job.attempt < 1:
            found.append(self._finding("active without an attempt", name))
        ended, due = job.ended_us is not None, job.due_us is not None
        if ended != (job.state in _ENDED) or due != (job.state is JobState.DELAYED):
            found.append(self._finding(f"{job.state} with a moment that does not fit", name))
        return found

    def _in_its_place(self, id: bytes, record: bytes, job: Job) -> bool:
        state = job.state
        if record[:8] == _BEHIND:
            self.behind.add((self._name, job.id))
            return id in self._places["blocked"]
        if state is JobState.BLOCKED:
            in_line = job.key is None or record[1:8] + id in self._lines_of_keys.get(job.key, ())
            return in_line and id in self._places["blocked"]
        if state is JobState.WAITING:
            return record[1:8] + id in self._places["line"]
        if state is JobState.ACTIVE:
            return record[1:8] + id in self._places["active"]
        if state is JobState.DELAYED:
            return id in self._places["delayed"]
        ended = _ENDED.get(state)
        if ended is None:
            return False
        own = id in self._places[f"own-{ended}"]
        return own == (id in self._places["until"]) and own != (id in self._places[ended])

    def _look_back(self, seen: set[str]) -> list[Finding]:
        """What indexes tell of jobs that are not there; lines and claims may hold such, which are passed over."""
        return [
            self._finding(f"among the {kind}, and not there", long(member))
            for kind, members in self._places.items()
            for member in (members if kind not in {"line", "active"} else ())
            if long(member) not in seen
        ]

    async def _compare_figures(self) -> list[Finding]:
        told = await self._hash(f"counts:{self._name}")
        kept = {field.decode(): int(figure) for field, figure in told.items()}
        found = []
        by_state = {f"{_NUMBERS.index(letter.decode())}": state.value for letter, state in STATE.items()}
        figures = {(by_state[field[0]], field[1:]): figure for field, figure in kept.items() if field[0] in by_state}
        for state, name in figures.keys() | self._figures.keys():
            said, real = figures.get((state, name), 0), self._figures[state, name]
            if said != real:
                found.append(self._finding(f"{said} jobs named {name!r} are said to be {state}, {real} are"))
        return found

    async def _look_at_keys(self) -> list[Finding]:
        """Whether each job that nobody has begun with has its dedup key, and all that is kept of keys fits."""
        kept = await self._hash(f"dedup:{self._name}")
        holders = {key.decode(): long(its[8:]) for key, its in kept.items()}
        later = {long(id) for id in await self._hash(f"later:{self._name}")}
        looked = {key.decode() for key in await self._whole_set(f"dedup-look:{self._name}")}
        rules = {id: rule for id, job in self._keyed.items() if (rule := job.options.dedup) is not None}
        return [
            *(
                self._finding("a job is to be added after it, and it has ended", id)
                for id in later
                if id not in self._keyed or self._keyed[id].settled
            ),
            *(
                self._finding(f"nobody has its dedup key {rules[id].key!r}", id)
                for id, job in self._keyed.items()
                if not job.settled
                and job.started_us is None
                and rules[id].window is None
                and rules[id].key not in holders
            ),
            *(self._finding(f"the dedup key {key!r} is kept and not looked at") for key in holders.keys() ^ looked),
        ]

    async def _look_at_times(self) -> list[Finding]:
        """Whether all jobs that have to be begun in time are looked at then."""
        looked = {long(id) for id in await self._whole_set(f"expires:{self._name}")}
        return [self._finding("it has to be begun in time, and nobody looks", id) for id in self._timed - looked]

    def _finding(self, what: str, id: str = "") -> Finding:
        return Finding(what, self._name, id)
