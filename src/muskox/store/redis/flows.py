"""The verbs for flows and batches: what they ask of their steps, and what they make of the answers.

What the steps do is told on top of `lua/nodes.lua` and `lua/flowing.lua`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from muskox.core.errors import FlowClosed, OptionError
from muskox.core.flows import FLOW_KEPT, FlowJob, FlowKind, FlowRecord, NewFlow, OnFailure, Parent
from muskox.core.job import Job, JobState, Lease, NewJob
from muskox.store.protocol import Added, Found, FoundFlows
from muskox.store.redis import dedup
from muskox.store.redis.ids import long, packable
from muskox.store.redis.records import LETTER, STATE, Reader, added, groups, read_failure
from muskox.store.redis.steps import Steps
from muskox.store.redis.trouble import outside

__all__ = ["FLOW_KEPT_US", "FlowSteps", "StoredFlow", "read_flow", "read_parents"]

FLOW_KEPT_US = int(FLOW_KEPT * 1_000_000)

_BEYOND = 2**53


class StoredFlow(msgspec.Struct, array_like=True, gc=False):
    """A flow as `lua/flowing.lua` keeps it."""

    is_batch: bool
    is_open: bool
    is_stopped: bool
    total: int
    completed: int
    failed: int
    cancelled: int
    ended: int
    added: int
    stamp: int
    here: int
    trimmed: int
    cancel: int
    retry: int
    completed_job: tuple[str, str] | bool
    settled_job: tuple[str, str] | bool
    completed_added: bool
    settled_added: bool
    numbers: int

    @property
    def kind(self) -> FlowKind:
        return _kind(self.is_batch)


read_flow = msgspec.msgpack.Decoder(StoredFlow).decode


class FlowSteps(Steps):
    """A store object as far as it concerns flows and batches."""

    async def grow(self, flow: NewFlow, jobs: Sequence[FlowJob], *, within: Any = None) -> list[Added]:
        if within is not None:
            outside()
        said = (
            flow.id, flow.kind is FlowKind.BATCH, flow.open, _follower(flow.completed), _follower(flow.settled),
        )  # fmt: skip
        new = [one.job for one in jobs]
        answer = await self._lasting_step("grow", (said, groups(new), _waits(jobs)))
        return _grown(new, answer, flow.id, flow.kind)

    def grow_within(self, flow: NewFlow, jobs: Sequence[FlowJob], connection: Any) -> list[Added]:
        outside()

    async def branch(self, lease: Lease, jobs: Sequence[FlowJob]) -> list[Added] | None:
        new = [one.job for one in jobs]
        asked = lease.queue, packable(lease.job_id), lease.token, groups(new), _waits(jobs)
        answer = await self._lasting_step("branch", asked)
        if answer[0] == b"lost":
            return None
        if answer[0] == b"alone":
            raise OptionError(
                f"job {lease.job_id} is in no flow, so what it adds can wait for nothing; leave after out"
            )
        if answer[0] == b"added":
            return _grown(new, answer, answer[2].decode() or None, FlowKind.FLOW)
        *answer, id, is_batch = answer
        return _grown(new, answer, id.decode(), _kind(bool(is_batch)))

    async def close_flow(self, id: str) -> FlowRecord | None:
        kept = await self._lasting_step("close_flow", (id,))
        return None if kept is None else _record(id, kept)

    async def cancel_flow(self, id: str, *, limit: int = 1000) -> int:
        return await self._move_flow("cancel_flow", id, limit)

    async def retry_flow(self, id: str, *, limit: int = 1000) -> int:
        return await self._move_flow("retry_flow", id, limit)

    async def _move_flow(self, verb: str, id: str, limit: int) -> int:
        """Move jobs of a flow in as many steps as it takes to look at them."""
        total, more = 0, 1
        while more and total < limit:
            moved, more = await self._step(verb, (id, limit - total))
            total += int(moved)
        return total

    async def flows(
        self, ids: Sequence[str] | None = None, *, unended: bool = False, after: str | None = None, limit: int = 100
    ) -> FoundFlows:
        asked = False if ids is None else list(ids), unended, 0 if after is None else _read_cursor(after), limit
        found = await self._step("flows", asked) if limit > 0 else []
        records = [_record(id.decode(), kept) for id, kept in zip(found[1::3], found[2::3], strict=True)]
        return FoundFlows(records, str(found[-3]) if ids is None and len(records) == limit else None)

    async def flow_jobs(
        self, id: str, *, states: Sequence[JobState] = (), after: str | None = None, limit: int = 100
    ) -> Found:
        start = 0 if after is None else _read_cursor(after)
        letters = "".join(LETTER[state] for state in states)
        rows, last = await self._step("flow_jobs", (id, letters, start, max(1, limit)))
        readers: dict[bytes, Reader] = {}
        jobs = list[Job]()
        for queue, its_id, record in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            reader = readers.setdefault(queue, Reader(queue.decode()))
            jobs.append(reader.job(long(its_id), record))
        return Found(jobs, str(last) if last else None)

    async def parents(self, queue: str, id: str) -> list[Parent]:
        return read_parents(await self._step("parents", (queue, packable(id))))


# --- growing ---------------------------------------------------------------------------


def _follower(job: NewJob | None) -> tuple[Any, ...] | bool:
    if job is None:
        return False
    [group] = groups([job])
    return job.queue, job.id, group, dedup.rule(job.options.dedup)


def _waits(jobs: Sequence[FlowJob]) -> list[Any] | bool:
    """The parents of each job as `joining.lua` takes them; False when none has any."""
    if not any(one.waits for one in jobs):
        return False
    return [
        [(wait.queue, packable(wait.id), wait.name, str(wait.on_failure)) for wait in one.waits] or False
        for one in jobs
    ]


def _grown(new: Sequence[NewJob], answer: Sequence[Any], id: str | None, kind: FlowKind) -> list[Added]:
    """What became of the jobs; raises where nothing was added."""
    match answer[0]:
        case b"added":
            now, held, known, fresh = answer[1]
            found = added(new, (now, held, known), id)
            for number, record in zip(fresh[::2], fresh[1::2], strict=True):
                job = new[number - 1]
                found[number - 1] = Added(Reader(job.queue).job(job.id, record), True)
            return found
        case b"kind":
            other = _kind(kind is FlowKind.FLOW)
            raise OptionError(f"{id!r} is a {other} and no {kind}; use another id")
        case b"batch":
            raise OptionError(f"jobs of a batch wait for nothing, as one of {id!r} would; use a flow")
        case b"parent":
            queue, parent = answer[2].decode(), long(answer[3])
            raise OptionError(
                f"job {new[answer[1] - 1].id!r} waits for {parent!r} in queue {queue!r}, which is not in the {kind} "
                f"{id!r} before it; add that first"
            )
        case _:
            raise FlowClosed(f"{kind} {id!r} is closed: no job can be added to it; add it alone, or to another")


def _kind(is_batch: bool) -> FlowKind:
    return FlowKind.BATCH if is_batch else FlowKind.FLOW


# --- reading ---------------------------------------------------------------------------


def _record(id: str, kept: bytes) -> FlowRecord:
    its = read_flow(kept)
    done, over = _queue_and_id(its.completed_job), _queue_and_id(its.settled_job)
    return FlowRecord(
        id, its.kind, its.is_open, its.added, its.total, its.completed, its.failed, its.cancelled, its.ended or None,
        done, over, done is not None and its.completed_added, over is not None and its.settled_added,
    )  # fmt: skip


def _queue_and_id(job: tuple[str, str] | bool) -> tuple[str, str] | None:
    return None if isinstance(job, bool) else job


def read_parents(told: Sequence[bytes]) -> list[Parent]:
    """Parents from what `parents_of` in `lua/nodes.lua` gives."""
    return [
        Parent(
            name.decode(), queue.decode(), long(id), OnFailure(meaning.decode()), STATE[state],
            result.decode() if state == b"C" and result else None, read_failure(failure.decode()) if failure else None,
        )
        for name, queue, id, meaning, state, result, failure in zip(*(told[n::7] for n in range(7)), strict=True)
    ]  # fmt: skip


def _read_cursor(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 16 or int(cursor) >= _BEYOND:
        raise OptionError(f"{cursor[:60]!r} is not a cursor; use the one that came with the page before")
    return int(cursor)
