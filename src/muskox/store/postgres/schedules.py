"""The verbs of schedules, each as one function of the database, called once; and their part of the audit.

When a schedule is due next is not known here: whoever fires it says so. The
functions are in `migrations/0008.sql`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from muskox.core.kept import Entry, Kept
from muskox.core.schedule import Overlap, Told
from muskox.store import scheduling
from muskox.store.postgres import adding, rows
from muskox.store.postgres.adding import Lane
from muskox.store.postgres.verbs import Row, Verbs
from muskox.store.protocol import MOST_ENTRIES, SCHEDULES, WHY_SKIPPED, Change, Finding, Firing, Looked

__all__ = ["Scheduling"]


class Scheduling(Verbs):
    """Keeps and fires schedules; a part of the store."""

    async def schedules(self, names: Sequence[str] = (), *, due: bool = False, limit: int = 1000) -> Looked:
        limit = max(0, limit)
        most = len(names) if names and due else limit
        values = self._now(), rows.texts(names) if names else None, due, most
        (_, _, _, _, nearest, _, _, now, _, _), *found = await self._all("read_schedules", values)
        kept = [one for row in found if (one := _kept(row)) is not None]
        return Looked(now, scheduling.due_of(kept, now, limit) if names and due else kept, nearest)

    async def put_schedules(self, changes: Sequence[Change]) -> list[bool]:
        if not changes:
            return []
        made, bells = await self._one("put_schedules", (self._now(), self._levels.add, SCHEDULES, *_changes(changes)))
        self._bells.ring(bells)
        return list(made)

    async def fire(self, firings: Sequence[Firing]) -> list[int | None]:
        if not firings:
            return []
        lanes = await self._learn(adding.lanes_of([job for one in firings for job in one.jobs]))
        values = (self._now(), self._levels.add, *_firings(firings, lanes))
        won, owners, known, bells = await self._one("fire", values)
        self._bells.ring(bells)
        added: list[int | None] = [None] * len(firings)
        for place in won or ():
            added[place - 1] = 0
        there = set(known or ())
        for place, owner in enumerate(owners or (), 1):
            if place not in there:
                added[owner - 1] = (added[owner - 1] or 0) + 1
        return added

    async def ledger(self, name: str, *, limit: int = 100) -> list[Entry]:
        found = await self._all("ledger", (name, max(0, limit)))
        return [Entry(moment, Told(told), job, reason, missed, at) for moment, told, job, reason, missed, at in found]

    async def _audit_schedules(self) -> list[Finding]:
        """Whether schedules can be read and have sane moments, and whether ledgers belong to them."""
        found = []
        for name, version, generation, next_us, queue, overlap, record in await self._all("audit_schedules"):
            fault = scheduling.fault(name, record, version, generation, next_us)
            if fault is None and scheduling.outline(record) != scheduling.Outline(queue, overlap):
                fault = f"its queue {queue} or its overlap {overlap} is not what it says"
            if fault is not None:
                found.append(Finding(f"schedule {name}: {fault}"))
        return found + [
            Finding(f"schedule {name}: {entries} entries up to {latest} in its ledger, {told} were told")
            for name, entries, latest, told in await self._all("audit_entries", (MOST_ENTRIES,))
        ]


def _kept(row: Row) -> Kept | None:
    name, version, generation, paused, next_us, last_us, last_job, at, changed, record = row
    schedule = scheduling.read(name, record)
    if schedule is None:
        return None
    return Kept(schedule, generation, version, paused, next_us, last_us, last_job, at, changed)


def _changes(changes: Sequence[Change]) -> Row:
    """The arguments of `put_schedules`, but for the first."""
    kept = [change.kept for change in changes]
    return (
        rows.texts(change.name for change in changes),
        rows.ints(change.version for change in changes),
        _truths(one is None for one in kept),
        rows.ints(None if one is None else one.generation for one in kept),
        _truths(one is not None and one.paused for one in kept),
        rows.ints(None if one is None else one.next_us for one in kept),
        rows.ints(None if one is None else one.last_us for one in kept),
        rows.texts(None if one is None else one.last_job for one in kept),
        rows.texts(None if one is None else one.schedule.queue for one in kept),
        rows.texts(None if one is None else one.schedule.overlap for one in kept),
        rows.texts(None if one is None else scheduling.text(one.schedule) for one in kept),
    )


def _truths(values: Iterable[bool]) -> str:
    return "{" + ",".join("t" if value else "f" for value in values) + "}"


def _firings(firings: Sequence[Firing], lanes: Mapping[tuple[str, str], Lane]) -> Row:
    """The arguments of `fire`, but for the first."""
    jobs = [(owner, job) for owner, one in enumerate(firings, 1) for job in one.jobs]
    places = {(owner, job.id): place for place, (owner, job) in enumerate(jobs, 1)}
    # Of a long catch-up only the entries that the ledger keeps.
    entries = [
        (owner, number, entry)
        for owner, one in enumerate(firings, 1)
        for number, entry in enumerate(one.entries, 1)
        if number > len(one.entries) - MOST_ENTRIES
    ]
    found = [lanes[job.queue, job.name] for _, job in jobs]
    return (
        rows.texts(one.name for one in firings),
        rows.ints(one.version for one in firings),
        rows.ints(one.next_us for one in firings),
        rows.ints(one.last_us for one in firings),
        rows.ints(places[owner, one.jobs[-1].id] if one.jobs else 0 for owner, one in enumerate(firings, 1)),
        rows.ints(len(one.entries) for one in firings),
        rows.ints(owner for owner, _ in jobs),
        rows.ints(queue for queue, _ in found),
        rows.ints(lane for _, lane in found),
        rows.texts(job.id for _, job in jobs),
        rows.ints(-job.priority for _, job in jobs),
        rows.ints(int(job.delay * 1_000_000) for _, job in jobs),
        rows.ints(job.options.attempts for _, job in jobs),
        rows.ints(job.options.max_stalls for _, job in jobs),
        rows.texts(rows.options_text(job.options) for _, job in jobs),
        rows.texts(job.data for _, job in jobs),
        rows.texts(job.key for _, job in jobs),
        rows.ints(owner for owner, _, _ in entries),
        rows.ints(number for _, number, _ in entries),
        rows.ints(places.get((owner, entry.job_id or ""), 0) for owner, _, entry in entries),
        rows.ints(entry.moment_us for _, _, entry in entries),
        rows.texts(entry.told for _, _, entry in entries),
        rows.texts(entry.job_id for _, _, entry in entries),
        rows.texts(rows.pure(entry.reason) for _, _, entry in entries),
        rows.ints(entry.missed for _, _, entry in entries),
        MOST_ENTRIES,
        WHY_SKIPPED[Overlap.SKIP],
        WHY_SKIPPED[Overlap.QUEUE],
    )
