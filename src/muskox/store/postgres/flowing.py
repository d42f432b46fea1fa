"""The verbs of flows and batches, and their part of what is shown and audited.

What the end of a job means to the others of its flow is decided in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import psycopg

from muskox.core.errors import MuskoxError, OptionError
from muskox.core.flows import FlowJob, FlowKind, FlowRecord, NewFlow, Parent
from muskox.core.job import JobState, Lease
from muskox.core.life import MOVES
from muskox.store.postgres import adding, rows
from muskox.store.postgres.connections import Connection
from muskox.store.postgres.growing import Growing, parent
from muskox.store.postgres.rows import NUMBER
from muskox.store.postgres.verbs import Row, Verbs
from muskox.store.postgres.within import Within
from muskox.store.protocol import Added, Finding, Found, FoundFlows

__all__ = ["Flowing"]

_BEYOND = 2**63 - 1

_CANCELLED_FROM = sorted(MOVES["cancel"], key=lambda state: state is not JobState.BLOCKED)
"""Those that wait for others first."""


class _Follower(msgspec.Struct):
    """What is shown of a job that follows a flow."""

    to: str
    id: str


_follower = msgspec.json.Decoder(_Follower)


class Flowing(Verbs):
    """Keeps flows and batches; a part of the store."""

    _within: Within

    async def grow(self, flow: NewFlow, jobs: Sequence[FlowJob], *, within: Any = None) -> list[Added]:
        its = Growing(flow, jobs)
        if within is not None:
            return await self._within.grow(its, within)
        lanes = await self._learn(its.lanes)
        if its.is_short:
            short = its.alike(lanes, now=self._now(), level=self._levels.add)
            answer = await self._connections.run(partial(adding.say_alike, self._schema["fill_alike"], short))
            if answer is not None:
                answers, bells = its.filled(answer)
                self._bells.ring(bells)
                return answers
        values = its.values(lanes, now=self._now(), level=self._levels.add)
        while True:
            row = await self._grown("grow", values, its)
            if (found := await self._answers(its, row)) is not None:
                return found
            # Somebody has removed one of them in this moment: it can be stored now.

    async def branch(self, lease: Lease, jobs: Sequence[FlowJob]) -> list[Added] | None:
        its = Growing(None, jobs)
        lane = lease.queue, lease.name
        lanes = await self._learn({*its.lanes, lane})
        values = its.values_below(lease, lanes[lane], lanes, now=self._now(), level=self._levels.add)
        while True:
            row = await self._grown("branch", values, its)
            *_, lost, flow = row
            if lost:
                return None
            if (answers := await self._answers(its, row, flow=flow)) is not None:
                return answers

    async def _grown(self, name: str, values: Row, its: Growing) -> Row:
        """Say a statement that adds jobs, and raise what it refuses."""
        said = self._schema[name]

        async def step(db: Connection) -> Row | MuskoxError:
            try:
                [row] = await (await db.execute(said, values)).fetchall()
            except psycopg.Error as error:
                if (refused := its.refused(error)) is None:
                    raise
                return refused
            return row

        answer = await self._connections.run(step)
        if isinstance(answer, MuskoxError):
            raise answer
        self._bells.ring(answer[4])
        return answer

    async def _answers(self, its: Growing, row: Row, *, flow: str | None = None) -> list[Added] | None:
        """What became of the jobs; None when one that was known is not there any more."""
        known = its.known(row)
        stored = await self._stored(known) if known else {}
        return None if stored is None else its.answers(row, stored, flow=flow)

    # --- as one thing --------------------------------------------------------------

    async def close_flow(self, id: str) -> FlowRecord | None:
        await self._close(id, stop=False)
        return next(iter((await self.flows([id])).flows), None)

    async def _close(self, id: str, *, stop: bool) -> None:
        (bells,) = await self._one("close_flow", (self._now(), self._levels.add, id, stop))
        self._bells.ring(bells)

    async def cancel_flow(self, id: str, *, limit: int = 1000) -> int:
        # In a step of its own, since the record of a batch is not to be held while its jobs are locked.
        await self._close(id, stop=True)
        return await self._change_flow("cancel", id, _CANCELLED_FROM, limit)

    async def retry_flow(self, id: str, *, limit: int = 1000) -> int:
        return await self._change_flow("retry", id, list(MOVES["retry"]), limit)

    async def _change_flow(self, verb: str, id: str, states: Sequence[JobState], limit: int) -> int:
        values = self._now(), verb, id, rows.ints(NUMBER[state] for state in states), limit
        moved, bells = await self._one("change_flow", values)
        self._bells.ring(bells)
        return int(moved)

    async def flows(
        self, ids: Sequence[str] | None = None, *, unended: bool = False, after: str | None = None, limit: int = 100
    ) -> FoundFlows:
        if ids is not None:
            found = await self._all("flows_by_id", (rows.texts(dict.fromkeys(ids)),))
            return FoundFlows([_record(row) for row in found], None)
        before = _BEYOND if after is None else _read_cursor(after)
        found = await self._all("page_unended_flows" if unended else "page_flows", (before, limit))
        return FoundFlows([_record(row) for row in found], str(found[-1][0]) if found and len(found) == limit else None)

    async def flow_jobs(
        self, id: str, *, states: Sequence[JobState] = (), after: str | None = None, limit: int = 100
    ) -> Found:
        values = {
            "id": id, "states": rows.ints(NUMBER[state] for state in dict.fromkeys(states or JobState)),
            "after": 0 if after is None else _read_cursor(after), "limit": limit,
        }  # fmt: skip
        found = await self._connections.run(lambda db: _fetch(db, self._schema["flow_jobs"], values))
        jobs = [rows.full(tuple(row[1:])) for row in found]
        return Found(jobs, str(found[-1][0]) if found and len(found) == limit else None)

    async def parents(self, queue: str, id: str) -> list[Parent]:
        values = {"queue": queue, "id": id, "unended": False, "limit": None}
        found = await self._connections.run(lambda db: _fetch(db, self._schema["parents"], values))
        return [parent(row) for row in found]

    async def _audit_flows(self) -> list[Finding]:
        return [Finding(*row) for row in await self._all("audit_flows")]


async def _fetch(db: Connection, said: str, values: dict[str, Any]) -> list[Row]:
    return await (await db.execute(said, values)).fetchall()


def _record(row: Row) -> FlowRecord:
    _, id, graph, is_open, added, total, completed, failed, cancelled, ended, after, over, after_added, over_added = row
    return FlowRecord(
        id, FlowKind.FLOW if graph else FlowKind.BATCH, is_open, added, total, completed, failed, cancelled, ended,
        _shown(after), _shown(over), after is not None and after_added, over is not None and over_added,
    )  # fmt: skip


def _shown(follower: str | None) -> tuple[str, str] | None:
    if follower is None:
        return None
    job = _follower.decode(follower)
    return job.to, job.id


def _read_cursor(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise OptionError(f"{cursor[:60]!r} is not a cursor; use the one that came with the page before")
    return int(cursor)
