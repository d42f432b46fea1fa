"""The steps that only look: jobs, pages, logs, figures, events, workers, and the audit of it all.

Each is given a connection on which every statement is a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from muskox.core.errors import OptionError
from muskox.core.events import Event, Record, Trimmed, unfold
from muskox.core.job import Job, JobState
from muskox.core.limits import NO_LIMITS
from muskox.store.postgres import rows
from muskox.store.postgres.connections import Connection
from muskox.store.postgres.growing import parent
from muskox.store.postgres.limiting import key_state, queue_limits
from muskox.store.postgres.rows import NUMBER, STATE
from muskox.store.postgres.schema import Schema
from muskox.store.protocol import Finding, Found, LogLine, NameCount, QueueCounts, Selection, Standing, WorkerRecord

__all__ = ["Looks"]

ALIVE = 30_000_000
"""A worker whose last beat is older than so many microseconds is not counted as live."""

_PARENTS = 10
"""Parents of a blocked job that are told of."""

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1

_PAGES = {
    JobState.WAITING: "page_waiting",
    JobState.DELAYED: "page_delayed",
    JobState.BLOCKED: "page_blocked",
    JobState.ACTIVE: "page_active",
}

_record = msgspec.json.Decoder(WorkerRecord)

Row = tuple[Any, ...]


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: which part of the walk, and the last row's place in it.

    A part is a place among the asked states and, for waiting jobs, a lane: by its number and not by its place among the
    lanes, since new ones may be made between two pages.
    """

    state: int = 0
    lane: int = 0
    rank: int = _LOWEST
    moment: int = _LOWEST
    seq: int = _LOWEST
    first: bool = True


class Looks:
    """What a store shows."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    async def get(self, db: Connection, queue: str, ids: Sequence[str]) -> list[Job | None]:
        """Read jobs in the order of their ids."""
        found = {
            job.id: job for job in map(rows.full, await self._all(db, "get", (rows.texts(dict.fromkeys(ids)), queue)))
        }
        return [found.get(id) for id in ids]

    async def standing(self, db: Connection, values: Mapping[str, Any], now: int | None) -> Standing | None:
        """Tell where a job stands; `values` are its queue and id, names of those before it and how many of them."""
        for moment, paused, lease_until, higher, earlier, *row in await self._all(db, "stand", {**values, "now": now}):
            job = rows.full(tuple(row))
            found = Standing(job, moment, paused, lease_until_us=lease_until)
            if job.state is JobState.WAITING:
                found = msgspec.structs.replace(found, higher=higher, earlier=earlier)
            if job.state is JobState.BLOCKED and job.flow is not None:
                its = {"queue": job.queue, "id": job.id, "unended": True, "limit": _PARENTS}
                found = msgspec.structs.replace(
                    found, parents=tuple(parent(row) for row in await self._all(db, "parents", its))
                )
            return await self._limited(db, found, values["most"])
        return None

    async def _limited(self, db: Connection, found: Standing, most: int) -> Standing:
        """What limits have to do with where a job stands."""
        job = found.job
        [(_, *row)] = await self._all(db, "queue_limits", (None, job.queue))
        limits = queue_limits(job.queue, found.now_us, row)
        if limits.limits != NO_LIMITS or limits.held_until_us is not None:
            found = msgspec.structs.replace(found, limits=limits)
        if job.key is None:
            return found
        keys = await self._all(db, "named_keys", (job.queue, rows.texts([job.key])))
        key = key_state(keys[0] if keys else (job.key, None, 0, 0, 0, None, None), limits.limits, found.now_us)
        holders = await self._all(db, "running_of_key", (job.queue, job.key, most))
        values = {"queue": job.queue, "id": job.id, "most": most}
        for higher, earlier in await self._all(db, "behind_its_key", values):
            found = msgspec.structs.replace(found, higher=higher, earlier=earlier)
        return msgspec.structs.replace(found, key=key, holders=tuple(id for (id,) in holders))

    async def logs(self, db: Connection, queue: str, id: str, after: int, limit: int) -> list[LogLine]:
        return [LogLine(*row) for row in await self._all(db, "logs", (queue, id, after, limit))]

    async def workers(self, db: Connection, now: int | None) -> list[WorkerRecord]:
        found = await self._all(db, "workers", (now, ALIVE))
        return [msgspec.structs.replace(_record.decode(record), age=max(0, age) / 1e6) for age, record in found]

    async def counts(self, db: Connection, queues: Sequence[str], now: int | None) -> list[QueueCounts]:
        """The figures of queues, in the order asked for, or of all in the order of their making."""
        found: dict[str, list[Row]] = {}
        live = []
        for *row, record in await self._all(db, "counts", (now, now, ALIVE)):
            if record is None:
                found.setdefault(row[0], []).append(tuple(row))
            else:
                live.append(_record.decode(record))
        runnable = _runnable(live)
        return [_count(name, found.get(name, []), runnable.get(name, set())) for name in queues or found]

    async def events(self, db: Connection, after: int, queue: str | None, limit: int, now: int | None) -> list[Event]:
        """Read facts after an offset."""
        (lowest, _, _, _, at, following), *records = await self._all(db, "read_events", (now, after, queue, limit))
        if after < 0 or after >= int(following):
            return [Trimmed(queue or "", int(following) - 1, at)]
        found: list[Event] = []
        for row in records:
            found += unfold(Record(*row), after=after)
            if len(found) >= limit:
                break
        first = int(following) if lowest is None else lowest
        if after + 1 < first:
            found.insert(0, Trimmed(queue or "", first - 1, at))
        return found[:limit]

    async def audit(self, db: Connection, now: int | None) -> list[Finding]:
        """Compare what is kept up with what is there."""
        return [
            Finding(*row)
            for name, values in (("audit", ()), ("audit_limits", (now,)))
            for row in await self._all(db, name, values)
        ]

    # --- pages -------------------------------------------------------------------

    async def find(self, db: Connection, selection: Selection, after: str | None) -> Found:
        """Give a page of jobs and the cursor of the next."""
        if selection.ids is not None:
            return Found(await self._by_ids(db, selection, selection.ids), None)
        start = _Cursor() if after is None else _read_cursor(after)
        lanes: Mapping[int, Row] = {row[0]: row for row in await self._all(db, "lanes_of", (selection.queue,))}
        page: list[Job] = []
        for number, lane, state, its in _parts(selection, lanes):
            if (number, lane) < (start.state, start.lane):
                continue
            cursor = start if (number, lane) == (start.state, start.lane) else _Cursor()
            left = selection.limit - len(page)
            queue = lanes[its[0]][2]
            found = await self._page(db, state, queue, its, cursor, left)
            page += [rows.full(row[3:]) for row in found]
            if found and len(page) >= selection.limit:
                return Found(page, _cursor_text(_Cursor(number, lane, *found[-1][:3])))
        return Found(page, None)

    async def _by_ids(self, db: Connection, selection: Selection, ids: Sequence[str]) -> list[Job]:
        return [
            job
            for job in await self.get(db, selection.queue, list(dict.fromkeys(ids)))
            if job is not None
            and (not selection.states or job.state in selection.states)
            and (not selection.names or job.name in selection.names)
        ]

    async def _page(
        self, db: Connection, state: JobState, queue: int, lanes: list[int], start: _Cursor, limit: int
    ) -> list[Row]:
        values = {
            "queue": queue, "state": NUMBER[state], "lanes": rows.ints(lanes), "lane": lanes[0], "first": start.first,
            "rank": start.rank, "moment": start.moment, "seq": start.seq, "limit": limit,
        }  # fmt: skip
        return await self._all(db, _PAGES.get(state, "page_ended"), values)

    async def _all(self, db: Connection, name: str, values: Any = ()) -> list[Row]:
        return await (await db.execute(self._schema[name], values)).fetchall()


def _parts(selection: Selection, lanes: Mapping[int, Row]) -> Iterator[tuple[int, int, JobState, list[int]]]:
    """The parts of a walk in their order: place of the state, lane or 0, state, and the lanes to read."""
    wanted = [lane for lane, row in lanes.items() if not selection.names or row[1] in selection.names]
    for number, state in enumerate(selection.states or tuple(JobState)):
        if not wanted:
            continue
        if state is JobState.WAITING:
            yield from ((number, lane, state, [lane]) for lane in wanted)
        else:
            yield number, 0, state, wanted


def _cursor_text(cursor: _Cursor) -> str:
    return ".".join(str(int(figure)) for figure in msgspec.structs.astuple(cursor)[:5])


def _read_cursor(cursor: str) -> _Cursor:
    try:
        state, lane, rank, moment, seq = figures = [int(figure) for figure in cursor.split(".")]
        if max(map(abs, figures)) > _HIGHEST:
            raise ValueError
    except ValueError:
        raise OptionError(f"{cursor[:60]!r} is not a cursor; use the one that came with the page before") from None
    return _Cursor(state, lane, rank, moment, seq, False)


# --- figures ---------------------------------------------------------------------------


def _runnable(live: list[WorkerRecord]) -> dict[str, set[str | None]]:
    """Per queue the names that live workers can run; None among them: any."""
    names: dict[str, set[str | None]] = {}
    for worker in live:
        for want in worker.wants:
            names.setdefault(want.queue, set()).update([None] if want.names is None else want.names)
    return names


def _count(queue: str, lanes: list[Row], runnable: set[str | None]) -> QueueCounts:
    totals = dict.fromkeys(STATE, 0)
    names, held, oldest, ever = [], 0, None, 0
    for _, _, name, *figures, added, age in lanes:
        if name is None:
            continue
        ever += int(added)
        states = dict(zip(STATE, map(int, figures), strict=True))
        names.append(NameCount(name, states))
        for state, figure in states.items():
            totals[state] += figure
        if waiting := states[JobState.WAITING]:
            held += 0 if runnable & {name, None} else waiting
            oldest = age if oldest is None or (age is not None and age > oldest) else oldest
    since = None if oldest is None else max(0.0, oldest / 1e6)
    return QueueCounts(queue, bool(lanes and lanes[0][1]), totals, names, held, since, ever)
