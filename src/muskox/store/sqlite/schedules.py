"""The steps of schedules: read, put and fire them, read their ledgers, and the audit of it all.

When a schedule is due next is not known here: whoever fires it says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from muskox.core.job import JobState, NewJob
from muskox.core.kept import Entry, Kept
from muskox.core.schedule import Overlap, Told
from muskox.store import scheduling
from muskox.store.protocol import MOST_ENTRIES, SCHEDULES, WHY_SKIPPED, Change, Finding, Firing, Looked
from muskox.store.sql import statements
from muskox.store.sqlite import dedup
from muskox.store.sqlite.moves import text
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = ["SQL", "audit", "fire", "ledger", "put", "read"]

SQL = statements("muskox.store.sqlite", "schedules.sql")

_WAITING = {NUMBER[state] for state in (JobState.WAITING, JobState.DELAYED, JobState.BLOCKED)}
_STOPPING = {
    Overlap.ALLOW: set[int](),
    Overlap.QUEUE: _WAITING,
    Overlap.SKIP: _WAITING | {NUMBER[JobState.ACTIVE]},
}
"""In which states the last job keeps the next from being added."""

Row = tuple[Any, ...]


def _all(tx: Tx, name: str, values: dict[str, Any]) -> list[Row]:
    return tx.db.execute(SQL[name], values).fetchall()


# --- reading ---------------------------------------------------------------------------


def read(tx: Tx, names: Sequence[str], due: bool, limit: int) -> Looked:
    """Read schedules, and which moment is the nearest."""
    limit = max(0, limit)
    values = {"names": text(names), "now": tx.now, "limit": len(names) if names and due else limit}
    found = list(_readable(_all(tx, "schedules_named" if names else "schedules_due" if due else "schedules", values)))
    nearest = _all(tx, "nearest_schedule", values)
    return Looked(
        tx.now,
        scheduling.due_of(found, tx.now, limit) if names and due else found,
        nearest[0][0] if nearest else None,
    )


def _readable(found: Iterable[Row]) -> Iterator[Kept]:
    for name, version, generation, paused, next_us, last_us, last_job, added, changed, record in found:
        schedule = scheduling.read(name, record)
        if schedule is not None:
            yield Kept(schedule, generation, version, bool(paused), next_us, last_us, last_job, added, changed)


def ledger(tx: Tx, name: str, limit: int) -> list[Entry]:
    """Read what became of the latest moments, latest first."""
    found = _all(tx, "ledger", {"name": name, "limit": max(0, limit)})
    return [Entry(moment, Told(told), job, reason, missed, at) for moment, told, job, reason, missed, at in found]


# --- putting ---------------------------------------------------------------------------


def put(tx: Tx, changes: Sequence[Change]) -> list[bool]:
    """Put, replace or delete schedules whose versions are still those that were seen."""
    return [_put_one(tx, change) for change in changes]


def _put_one(tx: Tx, change: Change) -> bool:
    found = _all(tx, "schedules_named", {"names": text([change.name]), "limit": 1})
    row = found[0] if found else None
    kept = change.kept
    if kept is None and row is None:
        return True
    values = None if kept is None else _columns(kept)
    if (row[1] if row is not None else 0) != change.version:
        return row is not None and values is not None and _is_there(row, values)
    version = tx.take_tokens(1)
    if values is None:
        tx.db.execute(SQL["drop_entries"], {"name": change.name})
        tx.db.execute(SQL["drop_schedule"], {"name": change.name})
    else:
        tx.db.execute(SQL["put_schedule"], values | {"name": change.name, "version": version, "now": tx.now})
    tx.db.execute(SQL["mark_put"], {"version": version})
    tx.woken.add(SCHEDULES)
    return True


def _columns(kept: Kept) -> dict[str, Any]:
    return {
        "generation": kept.generation, "paused": int(kept.paused), "next": kept.next_us, "last": kept.last_us,
        "last_job": kept.last_job, "record": scheduling.text(kept.schedule),
    }  # fmt: skip


def _is_there(row: Row, values: dict[str, Any]) -> bool:
    _, _, generation, paused, next_us, last_us, last_job, _, _, record = row
    return (generation, paused, next_us, last_us, last_job, record) == tuple(values.values())


# --- firing ----------------------------------------------------------------------------


class _Won(NamedTuple):
    """A firing whose version holds, and what there is of its schedule."""

    firing: Firing
    id: int
    told: int
    last_job: str | None
    outline: scheduling.Outline


class _Chosen(NamedTuple):
    """What becomes of a firing: jobs to add, entries, and the job that is then the last."""

    jobs: list[NewJob]
    entries: list[Entry]
    last_job: str | None


def fire(tx: Tx, firings: Sequence[Firing]) -> list[int | None]:
    """Use up due moments; the number of jobs that each added, None where its version is another."""
    won = list(_winners(tx, firings))
    states = _states(tx, [one for one in won if one is not None])
    chosen = [None if one is None else _choose(one, states) for one in won]
    added = iter(dedup.add(tx, [job for one in chosen if one is not None for job in one.jobs]))
    counts = [None if one is None else sum(next(added).created for _ in one.jobs) for one in chosen]
    _write(tx, [(one, its) for one, its in zip(won, chosen, strict=True) if one is not None and its is not None])
    return counts


def _winners(tx: Tx, firings: Sequence[Firing]) -> Iterator[_Won | None]:
    found = {name: rest for name, *rest in _all(tx, "to_fire", {"names": text([firing.name for firing in firings])})}
    for firing in firings:
        row = found.get(firing.name)
        if row is None or row[1] != firing.version:
            yield None
            continue
        # The next one of the same name in this call comes too late, as it would in the next call.
        del found[firing.name]
        id, _, told, last_job, record = row
        yield _Won(firing, id, told, last_job, scheduling.outline(record))


def _states(tx: Tx, won: Sequence[_Won]) -> dict[tuple[str, str], int]:
    """The states of the jobs, by queue and id, on which it depends what is added."""
    wanted: dict[str, list[str]] = {}
    for one in won:
        if one.outline.overlap is not Overlap.ALLOW:
            if one.last_job is not None:
                wanted.setdefault(one.outline.queue, []).append(one.last_job)
            for job in one.firing.jobs:
                wanted.setdefault(job.queue, []).append(job.id)
    return {
        (queue, id): state
        for queue, ids in wanted.items()
        for id, state in _all(tx, "states", {"queue": queue, "ids": text(ids)})
    }


def _choose(won: _Won, states: dict[tuple[str, str], int]) -> _Chosen:
    firing, overlap = won.firing, won.outline.overlap
    if overlap is Overlap.ALLOW:
        return _Chosen([*firing.jobs], [*firing.entries], firing.jobs[-1].id if firing.jobs else None)
    stopping = _STOPPING[overlap]
    stopped = won.last_job is not None and states.get((won.outline.queue, won.last_job)) in stopping
    jobs: list[NewJob] = []
    skipped: set[str] = set()
    last_job = None
    for job in firing.jobs:
        known = states.get((job.queue, job.id))
        if known is None and stopped:
            skipped.add(job.id)
            continue
        stopped = known is None or known in stopping
        last_job = job.id
        jobs.append(job)
    return _Chosen(
        jobs, [_skip(entry, overlap) if entry.job_id in skipped else entry for entry in firing.entries], last_job
    )


def _skip(entry: Entry, overlap: Overlap) -> Entry:
    return msgspec.structs.replace(entry, told=Told.SKIPPED, job_id=None, reason=WHY_SKIPPED[overlap])


def _write(tx: Tx, fired: Sequence[tuple[_Won, _Chosen]]) -> None:
    if not fired:
        return
    version = tx.take_tokens(len(fired))
    schedules, entries, full = [], [], []
    for place, (won, chosen) in enumerate(fired):
        told = won.told + len(chosen.entries)
        firing = won.firing
        schedules.append((won.id, version + place, firing.next_us, firing.last_us, chosen.last_job, told))
        latest = chosen.entries[-MOST_ENTRIES:]
        entries += [
            (won.id, number, entry.moment_us, entry.told, entry.job_id, entry.reason, entry.missed)
            for number, entry in enumerate(latest, told - len(latest) + 1)
        ]
        if chosen.entries and told > MOST_ENTRIES:
            full.append((won.id, told - MOST_ENTRIES))
    tx.db.execute(SQL["fired"], {"rows": text(schedules)})
    tx.db.execute(SQL["tell_moments"], {"rows": text(entries), "now": tx.now})
    tx.db.executemany(SQL["trim_ledger"], full)


# --- the audit -------------------------------------------------------------------------


def audit(tx: Tx) -> list[Finding]:
    """Whether schedules can be read and have sane moments, and whether ledgers belong to them."""
    found = []
    for name, version, generation, next_us, record in _all(tx, "audit_schedules", {}):
        fault = scheduling.fault(name, record, version, generation, next_us)
        if fault is not None:
            found.append(Finding(f"schedule {name}: {fault}"))
    for id, name, entries, latest, told in _all(tx, "audit_entries", {}):
        if name is None:
            found.append(Finding(f"entries in the ledger of schedule row {id}, which is not there"))
        elif entries > MOST_ENTRIES or latest != told:
            found.append(Finding(f"schedule {name}: {entries} entries up to {latest} in its ledger, {told} were told"))
    return found
