"""The verbs for flows and batches; `core/flows.py` says what the values mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from muskox.core.flows import FlowJob, FlowRecord, NewFlow, Parent
from muskox.core.job import JobState, Lease
from muskox.store.protocol.records import Added, Found

__all__ = ["FlowVerbs", "FoundFlows"]


class FoundFlows(msgspec.Struct, frozen=True):
    """A page of flows and the cursor of the next page; None after the last."""

    flows: list[FlowRecord]
    cursor: str | None


class FlowVerbs(Protocol):
    """Jobs that wait for others, and many jobs that end together; part of `Store`.

    All other verbs that end a job of a flow (settle, recover, cancel, remove) tell those that wait for it in the
    same step: when the last of its parents has ended a blocked job comes to wait as a job that is just added does,
    with its delay and its key; or it fails with a failure of kind parent, or is cancelled where its flow was, and so
    on down the line. What an ended parent gave is kept for its children, whatever becomes of the parent. Verbs that
    let an ended job run again (retry) take it back: blocked children wait for it again, and it is itself blocked
    while it has parents that have not ended. Events of the children: waiting, delayed, blocked, failed, cancelled.
    """

    async def grow(self, flow: NewFlow, jobs: Sequence[FlowJob], *, within: Any = None) -> list[Added]:
        """Add jobs to a flow or batch, which is made if it is not there: all or none.

        Parents are before their children in `jobs`, or in the flow already; else it raises `OptionError`. Of a flow
        that is there nothing but that counts which it was made with, and `open` False closes it. A known (queue, id),
        also a twin earlier in the call, stores nothing and answers with the job that is there. Raises `FlowClosed`
        when the flow is closed and an id is not known, `OptionError` when a flow of that id is of another kind.
        A job with parents that have not ended is blocked. Events: waiting, delayed, blocked.
        """
        ...

    def grow_within(self, flow: NewFlow, jobs: Sequence[FlowJob], connection: Any) -> list[Added]:
        """`grow` on the caller's own connection and in its transaction, in the caller's thread; see `add_within`."""
        ...

    async def branch(self, lease: Lease, jobs: Sequence[FlowJob]) -> list[Added] | None:
        """Add jobs from inside a run, all or none: they join the flow of its job, closed or not.

        Blocked jobs that wait for that job wait for the new ones too, with the same meaning of a failure and under
        their ids as names. Their parents, if they have any, are as for `grow`. A job in no flow adds jobs in no flow,
        without parents. None when the lease is lost, and nothing was added. A known id adds nothing and ties nothing.
        """
        ...

    async def close_flow(self, id: str) -> FlowRecord | None:
        """Let nothing more be added to a flow or batch; what follows it is added when its time has come by that.

        May be said again, to no effect. Gives it as it is then, None when there is none.
        """
        ...

    async def cancel_flow(self, id: str, *, limit: int = 1000) -> int:
        """Close a flow and move its jobs that have not ended to cancelled, at most `limit` of them; returns how many.

        Those that wait for others first. Later jobs of it that would fail because of a parent are cancelled too,
        until it is retried. To be said again until it gives less than `limit`. Events: cancelled.
        """
        ...

    async def retry_flow(self, id: str, *, limit: int = 1000) -> int:
        """Retry the jobs of a flow that failed or were cancelled, as `retry` does; returns how many.

        Those that have parents which have not ended by then are blocked. A flow of kind flow is retried in one step,
        whatever the limit. What followed it is not added again.
        """
        ...

    async def flows(
        self, ids: Sequence[str] | None = None, *, unended: bool = False, after: str | None = None, limit: int = 100
    ) -> FoundFlows:
        """Give flows and batches: those of the ids that are there, in their order, or a page of all, latest first.

        `unended`: only those that have not ended. `after` is the cursor of the page before.
        """
        ...

    async def flow_jobs(
        self, id: str, *, states: Sequence[JobState] = (), after: str | None = None, limit: int = 100
    ) -> Found:
        """Give a page of the jobs of a flow that are still there, in the order in which they were added.

        Only those in `states`, where any are given: a page may then be short and have a cursor all the same.
        """
        ...

    async def parents(self, queue: str, id: str) -> list[Parent]:
        """Give the parents of a job in the order in which they were said; none when it has none or is not there."""
        ...
