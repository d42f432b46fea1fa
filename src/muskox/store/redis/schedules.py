"""Schedules: puts them into the form in which they travel to the scripts, reads them from it, and audits them.

When one is due next is not known here: whoever fires it says so. How one is
kept is told on top of `lua/scheduled.lua`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from muskox.core.job import NewJob
from muskox.core.kept import Entry, Kept
from muskox.core.schedule import Told
from muskox.store import scheduling
from muskox.store.protocol import MOST_ENTRIES, SCHEDULES, WHY_SKIPPED, Change, Finding, Firing, Looked
from muskox.store.redis.dedup import rule
from muskox.store.redis.keys import Keys
from muskox.store.redis.link import Link
from muskox.store.redis.records import groups

__all__ = ["audit", "changes", "entries", "firings", "looked"]

_PIECE = 500


class _Record(msgspec.Struct, array_like=True, gc=False):
    version: int
    next: str
    last: str
    last_job: str
    paused: int
    generation: int
    added: int
    changed: int
    queue: str
    overlap: str
    text: str


_record = msgspec.msgpack.Decoder(_Record)
_entry = msgspec.msgpack.Decoder(tuple[int, str, str, str, str, int])


def _moment(text: str) -> int | None:
    return int(text) if text else None


def _text(moment: int | None) -> str:
    return "" if moment is None else str(moment)


# --- reading ---------------------------------------------------------------------------


def looked(found: Sequence[Any], *, due: bool, limit: int) -> Looked:
    """Schedules from the answer of `schedules.lua`, put in order."""
    now, nearest, *pairs = found
    all_kept = [
        kept
        for name, record in zip(pairs[::2], pairs[1::2], strict=True)
        if (kept := _kept(name.decode(), _record.decode(record))) is not None
    ]
    if due:
        all_kept = scheduling.due_of(all_kept, now, limit)
    else:
        all_kept = sorted(all_kept, key=lambda kept: kept.schedule.name)[: max(0, limit)]
    return Looked(now, all_kept, _moment(_record.decode(nearest).next) if nearest else None)


def _kept(name: str, its: _Record) -> Kept | None:
    schedule = scheduling.read(name, its.text)
    if schedule is None:
        return None
    return Kept(
        schedule, its.generation, its.version, bool(its.paused), _moment(its.next), _moment(its.last),
        its.last_job or None, its.added, its.changed,
    )  # fmt: skip


def entries(found: Sequence[bytes]) -> list[Entry]:
    """The entries of a piece of a ledger, latest first."""
    decoded = map(_entry.decode, reversed(found))
    return [
        Entry(int(moment), Told(told), job or None, why, missed, at) for at, moment, told, job, why, missed in decoded
    ]


# --- travelling ------------------------------------------------------------------------


def changes(wanted: Sequence[Change]) -> tuple[Any, ...]:
    """What `put_schedules.lua` is asked."""
    return SCHEDULES, [(one.name, one.version, False if one.kept is None else _new(one.kept)) for one in wanted]


def _new(kept: Kept) -> _Record:
    schedule = kept.schedule
    return _Record(
        0, _text(kept.next_us), _text(kept.last_us), kept.last_job or "", int(kept.paused), kept.generation, 0, 0,
        schedule.queue, schedule.overlap, scheduling.text(schedule),
    )  # fmt: skip


def firings(wanted: Sequence[Firing]) -> tuple[Any, ...]:
    """What `fire.lua` is asked; jobs that are alike in all but id and data name the same kind."""
    kinds = _Kinds()
    asked = [
        (
            one.name, one.version, _text(one.next_us), _text(one.last_us),
            [part for job in one.jobs for part in (kinds.number(job), job.id, job.data)],
            [(str(its.moment_us), its.told, its.job_id or "", its.reason, its.missed) for its in one.entries],
        )
        for one in wanted
    ]  # fmt: skip
    return kinds.found, asked, MOST_ENTRIES, WHY_SKIPPED


class _Kinds:
    """Groups as `add.lua` wants them, without their jobs, numbered from 1."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, ...]] = []
        self._numbers: dict[Any, int] = {}

    def number(self, job: NewJob) -> int:
        # By the object: options cannot be hashed, and the jobs of a call hold them.
        key = job.queue, job.name, job.priority, job.delay, id(job.options), job.key
        found = self._numbers.get(key)
        if found is None:
            [(*kind, _, _, ties)] = groups([job])
            self.found.append((*kind, "", "", ties and ties[0], rule(job.options.dedup)))
            found = self._numbers[key] = len(self.found)
        return found


# --- the audit -------------------------------------------------------------------------


async def audit(link: Link, keys: Keys) -> list[Finding]:
    """Whether schedules can be read, have sane moments, and are where they are looked for."""
    due = dict(await _scores(link, f"{keys.tag}due"))
    names = {name for name, _ in await _scores(link, f"{keys.tag}schedule-names")}
    found = []
    seen = set()
    async for name, record in _records(link, f"{keys.tag}schedules"):
        seen.add(name)
        fault = _fault(name, record, due, names)
        if fault is None and await link.ask(b"LLEN", f"{keys.tag}ledger:{name}") > MOST_ENTRIES:
            fault = "its ledger is too long"
        if fault is not None:
            found.append(Finding(f"schedule {name}: {fault}"))
    return found + [
        Finding(f"schedule {name} is among the due or the names, and not there")
        for name in names | due.keys()
        if name not in seen
    ]


def _fault(name: str, record: bytes, due: dict[str, float], names: set[str]) -> str | None:
    try:
        its = _record.decode(record)
        next_us = _moment(its.next)
    except (msgspec.DecodeError, ValueError) as error:
        return f"its record is damaged: {error}"
    expected = None if its.paused or next_us is None else float(next_us)
    if due.get(name) != expected or name not in names:
        return "it is not where schedules are looked for"
    return scheduling.fault(name, its.text, its.version, its.generation, next_us)


async def _scores(link: Link, key: str) -> list[tuple[str, float]]:
    found = await link.ask(b"ZRANGE", key, 0, -1, b"WITHSCORES")
    pairs = found if found and isinstance(found[0], list | tuple) else list(zip(found[::2], found[1::2], strict=True))
    return [(name.decode(), float(score)) for name, score in pairs]


async def _records(link: Link, key: str) -> AsyncIterator[tuple[str, bytes]]:
    cursor: Any = b"0"
    while True:
        cursor, pairs = await link.ask(b"HSCAN", key, cursor, b"COUNT", _PIECE)
        for name, record in zip(pairs[::2], pairs[1::2], strict=True):
            yield name.decode(), record
        if int(cursor) == 0:
            return
