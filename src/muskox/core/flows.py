"""Flows and batches as values: jobs that wait for others, and many jobs that end together.

A flow is a graph: a job in it is blocked until all of its parents have ended. A
batch is a flow without such waiting, filled piece by piece until it is closed.
Pure: it checks graphs and puts jobs in order; what happens to them is the store's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, overload

import msgspec

from muskox.core import codec
from muskox.core.errors import OptionError
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import JobState, NewJob, check_flow_id, check_id, check_parent_name, check_queue_name, moment

__all__ = [
    "FLOW_KEPT",
    "MOST_IN_FLOW",
    "FlowJob",
    "FlowKind",
    "FlowRecord",
    "FlowState",
    "NewFlow",
    "OnFailure",
    "Parent",
    "Parents",
    "Wait",
    "child_id",
    "in_order",
    "parent_failure",
]

MOST_IN_FLOW = 10_000
"""Jobs that are added to a flow in one step, and parents of one job."""

FLOW_KEPT = 86_400.0
"""Seconds after its end for which what is known of a flow is kept at least; and as long as one of its jobs is."""


class OnFailure(StrEnum):
    """What it means for a job that one of its parents failed, was cancelled, or was removed before it ended.

    `FAIL`: the job fails too, at once. `CONTINUE`: it goes on and sees how the parent ended. `IGNORE`: it goes on as
    if the parent had been completed without a result.
    """

    FAIL = "fail"
    CONTINUE = "continue"
    IGNORE = "ignore"


class FlowKind(StrEnum):
    """Whether jobs of it may wait for one another, or it is filled piece by piece."""

    FLOW = "flow"
    BATCH = "batch"


class FlowState(StrEnum):
    """How a flow or batch stands.

    `OPEN`: jobs can still be added. `RUNNING`: some have not ended. Of one that has ended: `COMPLETED` when all jobs
    were, `FAILED` when one failed, `CANCELLED` when none failed and one was cancelled.
    """

    OPEN = "open"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Wait(msgspec.Struct, frozen=True):
    """A parent for which a job waits, as it is said when the job is added; `name` is the job's own word for it."""

    queue: str
    id: str
    name: str
    on_failure: OnFailure = OnFailure.FAIL

    def __post_init__(self) -> None:
        check_queue_name(self.queue)
        check_id(self.id)
        check_parent_name(self.name)


class FlowJob(msgspec.Struct, frozen=True):
    """A job to be added to a flow, and its parents. Its delay counts from when all of them have ended."""

    job: NewJob
    waits: tuple[Wait, ...] = ()

    def __post_init__(self) -> None:
        if self.job.options.dedup is not None:
            raise OptionError(
                f"job {self.job.id!r} of a flow or batch has a dedup key, by which another could take its place; "
                "give it an id instead"
            )


class NewFlow(msgspec.Struct, frozen=True):
    """A flow or batch to be added to, made when it is not there.

    `open`: more may be added later, until it is closed. `completed` is a job that is added once all jobs of it have
    been completed, `settled` one that is added once all have ended; each once, and not before it is closed. Neither
    is a job of the flow.
    """

    id: str
    kind: FlowKind = FlowKind.FLOW
    open: bool = False
    completed: NewJob | None = None
    settled: NewJob | None = None

    def __post_init__(self) -> None:
        check_flow_id(self.id)


class FlowRecord(msgspec.Struct, frozen=True):
    """What is known of a flow or batch as a whole: its figures, kept up with every move.

    A job that was removed before it ended counts as cancelled. `completed_job` and `settled_job` are queue and id
    of the jobs that follow it, `completed_added` and `settled_added` whether they have been added.
    """

    id: str
    kind: FlowKind
    open: bool
    added_us: int
    total: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    ended_us: int | None = None
    completed_job: tuple[str, str] | None = None
    settled_job: tuple[str, str] | None = None
    completed_added: bool = False
    settled_added: bool = False

    @property
    def ended(self) -> int:
        """How many of its jobs have ended."""
        return self.completed + self.failed + self.cancelled

    @property
    def unended(self) -> int:
        """How many of its jobs have not ended."""
        return self.total - self.ended

    @property
    def progress(self) -> float:
        """The share of its jobs that have ended, from 0 to 1."""
        return self.ended / self.total if self.total else float(not self.open)

    @property
    def state(self) -> FlowState:
        if self.open:
            return FlowState.OPEN
        if self.unended:
            return FlowState.RUNNING
        if self.failed:
            return FlowState.FAILED
        return FlowState.CANCELLED if self.cancelled else FlowState.COMPLETED

    @property
    def added_at(self) -> datetime:
        return moment(self.added_us)

    @property
    def ended_at(self) -> datetime | None:
        """When the last of its jobs ended, or it was closed after that."""
        return None if self.ended_us is None else moment(self.ended_us)


class Parent(msgspec.Struct, frozen=True):
    """A parent of a job as it is now, or as it was when it ended, also where it has been removed since.

    One that was removed before it ended is said to be cancelled.
    """

    name: str
    queue: str
    id: str
    on_failure: OnFailure
    state: JobState
    result_text: str | None = None
    failure: Failure | None = None

    @property
    def result(self) -> Any:
        """What the parent's processor returned; None when it was not completed."""
        return None if self.result_text is None else codec.decode(self.result_text)

    @property
    def completed(self) -> bool:
        return self.state is JobState.COMPLETED


class Parents(Sequence[Parent]):
    """The parents of a job as a run sees them, in their order, or by name: `parents["resized"].result`.

    Those that are ignored look as if they had been completed without a result.
    """

    def __init__(self, found: Sequence[Parent]) -> None:
        self._found = [_as_seen(one) for one in found]

    @overload
    def __getitem__(self, which: int | str) -> Parent: ...
    @overload
    def __getitem__(self, which: slice) -> list[Parent]: ...
    def __getitem__(self, which: int | str | slice) -> Parent | list[Parent]:
        if not isinstance(which, str):
            return self._found[which]
        for one in self._found:
            if one.name == which:
                return one
        raise KeyError(
            f"there is no parent {which!r}; there are {', '.join(one.name for one in self._found) or 'none'}"
        )

    def __len__(self) -> int:
        return len(self._found)

    @property
    def results(self) -> list[Any]:
        """What the parents returned, in their order; None for one that was not completed."""
        return [one.result for one in self._found]


def _as_seen(one: Parent) -> Parent:
    if one.on_failure is not OnFailure.IGNORE or one.completed:
        return one
    return msgspec.structs.replace(one, state=JobState.COMPLETED, failure=None)


def child_id(parent: str, job: NewJob) -> str:
    """The id of a job that a run adds: the same whenever a run of the same job adds the same one.

    By what it is and not by its place, since a later attempt may leave out what was done before.
    """
    said = f"{job.queue}\0{job.name}\0{job.data}"
    mark = sha256(said.encode()).hexdigest()[:16]
    if len(parent) > _LONGEST_PARENT:
        parent = sha256(parent.encode()).hexdigest()
    return f"{parent}:{mark}"


def parent_failure(queue: str, id: str, state: JobState, failure: Failure | None, *, removed: bool = False) -> Failure:
    """Why a job fails because of a parent."""
    if state is JobState.FAILED:
        why = f"failed: {failure}" if failure is not None else "failed"
    else:
        why = "was removed before it ended" if removed else "was cancelled"
    return Failure(FailureKind.PARENT, "ParentFailed", f"its parent {id} in queue {queue} {why}"[:_MOST_WHY])


_MOST_WHY = 1000
_LONGEST_PARENT = 200
_Key = tuple[str, str]
"""Queue and id of a job."""


def in_order(jobs: Sequence[FlowJob]) -> list[FlowJob]:
    """Check a whole flow and give its jobs with parents before their children, else in the order given.

    Raises `OptionError` for two jobs of one id, a parent that is not among them, a job that waits for itself or
    twice for one parent, two parents of one name, a cycle, too many jobs, and none at all.
    """
    if not jobs:
        raise OptionError("a flow needs at least one job; add some to it first")
    if len(jobs) > MOST_IN_FLOW:
        raise OptionError(f"a flow may have {MOST_IN_FLOW} jobs, not {len(jobs)}; use a batch for many jobs")
    by_id = _by_id(jobs)
    children: dict[_Key, list[_Key]] = {key: [] for key in by_id}
    missing = {key: len(_checked_waits(one, by_id.keys())) for key, one in by_id.items()}
    for key, one in by_id.items():
        for wait in one.waits:
            children[wait.queue, wait.id].append(key)
    ready = deque(key for key, waits in missing.items() if not waits)
    ordered: list[FlowJob] = []
    while ready:
        key = ready.popleft()
        ordered.append(by_id[key])
        for child in children[key]:
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    if len(ordered) < len(jobs):
        raise OptionError(
            f"the flow has a cycle: {_cycle(by_id, missing)}; each of these jobs waits for the one before"
        )
    return ordered


def _by_id(jobs: Sequence[FlowJob]) -> dict[_Key, FlowJob]:
    by_id: dict[_Key, FlowJob] = {}
    for one in jobs:
        key = one.job.queue, one.job.id
        if key in by_id:
            raise OptionError(f"the flow has two jobs {key[1]!r} in queue {key[0]!r}; give each an id of its own")
        by_id[key] = one
    return by_id


def _checked_waits(one: FlowJob, known: Collection[_Key]) -> tuple[Wait, ...]:
    job = one.job
    if len(one.waits) > MOST_IN_FLOW:
        raise OptionError(f"job {job.id!r} has {len(one.waits)} parents; {MOST_IN_FLOW} are allowed")
    for wait in one.waits:
        if (wait.queue, wait.id) == (job.queue, job.id):
            raise OptionError(f"job {job.id!r} waits for itself; leave it out of its parents")
        if (wait.queue, wait.id) not in known:
            raise OptionError(
                f"job {job.id!r} waits for {wait.id!r} in queue {wait.queue!r}, which is not in the flow; "
                "add that to it too"
            )
    if len({(wait.queue, wait.id) for wait in one.waits}) < len(one.waits):
        raise OptionError(f"job {job.id!r} waits twice for the same parent; name each once")
    if len({wait.name for wait in one.waits}) < len(one.waits):
        raise OptionError(f"job {job.id!r} has two parents of one name; give each a name of its own")
    return one.waits


def _cycle(by_id: dict[_Key, FlowJob], missing: dict[_Key, int]) -> str:
    """Follow parents that can never be reached until one comes again."""
    path: list[_Key] = [next(key for key, waits in missing.items() if waits)]
    while True:
        waits = by_id[path[-1]].waits
        parent = next((wait.queue, wait.id) for wait in waits if missing[wait.queue, wait.id])
        if parent in path:
            return " → ".join(id for _, id in [parent, *reversed(path[path.index(parent) :])])
        path.append(parent)
