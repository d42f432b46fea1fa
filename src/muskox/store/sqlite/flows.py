"""The steps about flows and batches: make and fill them, look at them, cancel and retry them as one.

What the end of a job means to the others is in `endings.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from muskox.core.errors import FlowClosed, OptionError
from muskox.core.failure import Failure
from muskox.core.flows import FlowJob, FlowKind, FlowRecord, NewFlow, OnFailure, Wait, parent_failure
from muskox.core.job import JobState, Lease, NewJob
from muskox.store.protocol import Added, Finding, Found, FoundFlows
from muskox.store.sqlite import adding, dedup, endings, hand, rows
from muskox.store.sqlite.moves import get, still_held, text
from muskox.store.sqlite.select import read
from muskox.store.sqlite.tx import NUMBER, STATE, Tx

__all__ = ["audit", "branch", "cancel", "clear", "close", "flow_jobs", "flows", "grow", "retry"]

_C, _X = NUMBER[JobState.COMPLETED], NUMBER[JobState.CANCELLED]
_KINDS = (FlowKind.FLOW, FlowKind.BATCH)
_BEYOND = 2**63 - 1
_LOOKED_THROUGH = 5000
"""Jobs that a page looks at when only some states are wanted."""
_LOOK_AGAIN = 3_600_000_000
"""Microseconds after which clear looks again whether the jobs of an ended flow have gone."""

_read_new = msgspec.json.Decoder(NewJob).decode
_encode = msgspec.json.Encoder().encode


class _Flow(NamedTuple):
    id: int
    name: str
    kind: int
    open: int
    stopped: int

    @property
    def is_batch(self) -> bool:
        return self.kind == 1

    def __str__(self) -> str:
        return f"{_KINDS[self.kind]} {self.name!r}"


class _Node(NamedTuple):
    """A job as others may wait for it: its node, and how it ended, if it has."""

    id: int
    state: int | None = None
    failure: str | None = None


# --- growing ---------------------------------------------------------------------------


def grow(tx: Tx, flow: NewFlow, jobs: Sequence[FlowJob]) -> list[Added]:
    """Add jobs to a flow, made if it is not there."""
    values = {
        "name": flow.id, "kind": _KINDS.index(flow.kind), "open": True, "now": tx.now,
        "completed": _new_text(flow.completed), "settled": _new_text(flow.settled),
    }  # fmt: skip
    tx.execute("add_flow", values)
    found = _find(tx, flow.id)
    assert found is not None, "it was made above"
    if _KINDS[found.kind] is not flow.kind:
        raise OptionError(f"{flow.id!r} is a {_KINDS[found.kind]} and no {flow.kind}; use another id")
    answers = _grow(tx, found, jobs)
    created = sum(answer.created for answer in answers)
    if created and not found.open:
        raise FlowClosed(f"{found} is closed: no job can be added to it; add it alone, or to another")
    if created or (found.open and not flow.open):
        tx.execute("grow_flow", {"flow": found.id, "added": created, "open": flow.open})
    endings.follow(tx, [found.id])
    return answers


def branch(tx: Tx, lease: Lease, jobs: Sequence[FlowJob]) -> list[Added] | None:
    """Add jobs from inside a run to the flow of its job; None when its lease is lost."""
    if not still_held(tx, [lease]):
        return None
    _, number, node = tx.one("row_of", {"queue": lease.queue, "id": lease.job_id}) or (0, None, None)
    if number is None:
        if any(one.waits for one in jobs):
            raise OptionError(
                f"job {lease.job_id} is in no flow, so what it adds can wait for nothing; leave after out"
            )
        return dedup.add(tx, [one.job for one in jobs])
    flow = _Flow._make(tx.one("flow_by_id", {"flow": number}) or ())
    answers = _grow(tx, flow, jobs, below=node)
    tx.execute("grow_flow", {"flow": flow.id, "added": sum(answer.created for answer in answers), "open": True})
    endings.follow(tx, [flow.id])
    return answers


def _grow(tx: Tx, flow: _Flow, jobs: Sequence[FlowJob], *, below: int | None = None) -> list[Added]:
    if not flow.is_batch:
        return _Growing(tx, flow, below).add(jobs)
    if any(one.waits for one in jobs):
        raise OptionError(f"jobs of a batch wait for nothing, as one of {flow.name!r} would; use a flow")
    return adding.add(tx, [one.job for one in jobs], flow=(flow.id, flow.name))


class _Growing:
    """Adds jobs with their nodes and edges, and then lets those that can begin, or never will, do so."""

    def __init__(self, tx: Tx, flow: _Flow, below: int | None) -> None:
        self._tx = tx
        self._flow = flow
        self._dependents = [] if below is None else tx.all("blocked_by", {"node": below})
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._fallen: dict[int, tuple[int, str | None]] = {}

    def add(self, jobs: Sequence[FlowJob]) -> list[Added]:
        answers = [self._add(one) for one in jobs]
        if self._tx.told:
            adding.announce(self._tx)
        endings.resolve(self._tx, endings.fall(self._tx, self._fallen))
        return [self._as_it_is(answer) for answer in answers]

    def _as_it_is(self, answer: Added) -> Added:
        if not answer.created or answer.job.state is not JobState.BLOCKED:
            return answer
        [job] = get(self._tx, answer.job.queue, [answer.job.id])
        assert job is not None, "it was added above"
        return Added(job, True)

    def _add(self, one: FlowJob) -> Added:
        tx, job = self._tx, one.job
        parents = [(wait, self._node(one, wait)) for wait in one.waits]
        unended = sum(parent.state is None for _, parent in parents)
        failure = _failure_of(parents)
        # One whose parents have all ended is added as any other, and never told of as blocked.
        held = unended > 0 or failure is not None
        [answer] = adding.store(tx, [job], flow=(self._flow.id, self._flow.name), held=held)
        if not answer.created:
            return answer
        seq, *_ = tx.one("row_of", {"queue": job.queue, "id": job.id}) or (0,)
        values = {"flow": self._flow.id, "seq": seq, "delay": int(job.delay * 1_000_000)}
        node = tx.execute("add_node", values).lastrowid
        assert node is not None, "a row was inserted"
        self._nodes[job.queue, job.id] = _Node(node)
        tx.execute("tie", {"seq": seq, "node": node, "waits": unended or None})
        for wait, parent in parents:
            self._tie(node, parent.id, wait.name, wait.on_failure)
        for child_seq, child, on_failure in self._dependents:
            self._tie(child, node, job.id, on_failure)
            tx.execute("wait_less", {"changes": text([(child_seq, -1)])})
        if failure is not None:
            self._fallen[seq] = NUMBER[JobState.FAILED], rows.failure_text(failure)
        return answer

    def _tie(self, child: int, parent: int, name: str, on_failure: str) -> None:
        self._tx.execute("add_edge", {"child": child, "parent": parent, "name": name, "on_failure": str(on_failure)})

    def _node(self, one: FlowJob, wait: Wait) -> _Node:
        key = wait.queue, wait.id
        if key not in self._nodes:
            found = self._tx.one("find_node", {"queue": wait.queue, "id": wait.id, "flow": self._flow.id})
            if found is None:
                raise OptionError(
                    f"job {one.job.id!r} waits for {wait.id!r} in queue {wait.queue!r}, which is not in the "
                    f"{self._flow} before it; add that first"
                )
            self._nodes[key] = _Node._make(found)
        return self._nodes[key]


def _failure_of(parents: Sequence[tuple[Wait, _Node]]) -> Failure | None:
    """The failure of a new job of whose parents one has ended so that it cannot run."""
    for wait, parent in parents:
        if parent.state not in (None, _C) and wait.on_failure is OnFailure.FAIL:
            why = None if parent.failure is None else rows.read_failure(parent.failure)
            return parent_failure(wait.queue, wait.id, STATE[parent.state or 0], why)
    return None


def _find(tx: Tx, name: str) -> _Flow | None:
    found = tx.one("flow_by_name", {"name": name})
    return None if found is None else _Flow._make(found)


def _new_text(job: NewJob | None) -> str | None:
    return None if job is None else _encode(job).decode()


# --- as one thing ------------------------------------------------------------------------


def close(tx: Tx, id: str) -> FlowRecord | None:
    """Let nothing more be added to a flow."""
    flow = _find(tx, id)
    if flow is not None:
        if flow.open:
            tx.execute("grow_flow", {"flow": flow.id, "added": 0, "open": False})
        endings.follow(tx, [flow.id])
    return next(iter(flows(tx, [id]).flows), None)


def cancel(tx: Tx, id: str, limit: int) -> int:
    """Close a flow and end those of its jobs that have not ended."""
    flow = _find(tx, id)
    if flow is None:
        return 0
    tx.execute("stop_flow", {"flow": flow.id})
    name = "unended_batch_jobs" if flow.is_batch else "unended_jobs"
    count = hand.cancel_rows(tx, tx.all(name, {"flow": flow.id, "limit": limit}))
    endings.follow(tx, [flow.id])
    return count


def retry(tx: Tx, id: str, limit: int) -> int:
    """Let those jobs of a flow that failed or were cancelled run again."""
    flow = _find(tx, id)
    if flow is None:
        return 0
    tx.execute("go_on_with_flow", {"flow": flow.id})
    return hand.retry_rows(tx, tx.all("failed_jobs", {"flow": flow.id, "limit": limit if flow.is_batch else -1}))


def flows(
    tx: Tx, ids: Sequence[str] | None = None, unended: bool = False, after: str | None = None, limit: int = 100
) -> FoundFlows:
    """Flows by their ids, or a page of them, latest first."""
    if ids is not None:
        return FoundFlows([_record(row) for row in tx.all("flow_records", {"names": text(list(ids))})], None)
    values = {"before": _BEYOND if after is None else _read_cursor(after), "limit": limit}
    found = tx.all("unended_record_page" if unended else "flow_record_page", values)
    return FoundFlows([_record(row) for row in found], str(found[-1][13]) if len(found) == limit else None)


def _record(row: Sequence[Any]) -> FlowRecord:
    name, kind, is_open, added, total, completed, failed, cancelled, ended, done, over, done_added, over_added = row[
        :13
    ]
    return FlowRecord(
        name, _KINDS[kind], bool(is_open), added, total, completed, failed, cancelled, ended,
        _follower(done), _follower(over), done is not None and bool(done_added), over is not None and bool(over_added),
    )  # fmt: skip


def _follower(job: str | None) -> tuple[str, str] | None:
    if job is None:
        return None
    new = _read_new(job)
    return new.queue, new.id


def flow_jobs(tx: Tx, id: str, states: Sequence[JobState], after: str | None, limit: int) -> Found:
    """A page of the jobs of a flow, in the order of their adding."""
    start = 0 if after is None else _read_cursor(after)
    flow = _find(tx, id)
    if flow is None:
        return Found([], None)
    most = max(limit, _LOOKED_THROUGH) if states else limit
    found = tx.all("flow_page", {"flow": flow.id, "after": start, "limit": most})
    chosen = [seq for seq, state in found if not states or STATE[state] in states][:limit]
    reached = chosen[-1] if len(chosen) == limit else found[-1][0] if found else 0
    more = len(chosen) == limit or len(found) == most
    return Found([job for _, job in read(tx, chosen)], str(reached) if more else None)


def _read_cursor(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise OptionError(f"{cursor[:60]!r} is not a cursor; use the one that came with the page before")
    return int(cursor)


# --- upkeep ------------------------------------------------------------------------------


def clear(tx: Tx, limit: int) -> None:
    """Delete flows that ended long enough ago and whose jobs have all gone."""
    found = tx.all("flows_to_look_at", {"now": tx.now, "limit": limit})
    kept = [flow for flow, has_jobs in found if has_jobs]
    gone = [flow for flow, has_jobs in found if not has_jobs]
    if kept:
        tx.execute("look_later", {"flows": text(kept), "look": tx.now + _LOOK_AGAIN})
    if gone:
        for name in ("remove_edges", "remove_nodes", "remove_flows"):
            tx.execute(name, {"flows": text(gone)})


def audit(tx: Tx) -> list[Finding]:
    """Compare flows with their jobs."""
    found = [
        Finding(f"flow {name}: {said} jobs are said not to have ended, {real} have not")
        for name, said, real in tx.all("audit_flow_figures")
    ]
    found += [Finding(f"flow {name}: its end does not fit its figures") for (name,) in tx.all("audit_flow_ends")]
    found += [
        Finding(f"waits for {waits} parents, {real} have not ended", queue, id)
        for queue, id, waits, real in tx.all("audit_waits")
    ]
    found += [Finding("does not fit its flow or its node", *row) for row in tx.all("audit_members")]
    found += [Finding(what, "", id) for what, id in tx.all("audit_nodes")]
    return found
