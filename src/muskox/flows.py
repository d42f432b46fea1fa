"""Flows as programs make and see them: jobs that wait for others, added and looked after as one.

What may wait for what is checked in the core; waiting is the store's.
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

import msgspec

from muskox.core.errors import FlowNotFound, OptionError
from muskox.core.flows import FlowJob, FlowRecord, NewFlow, OnFailure, Parent, Wait, in_order
from muskox.core.job import Job, JobState, NewJob, check_flow_id, check_id, check_parent_name
from muskox.core.seam import World
from muskox.many import read_states
from muskox.queue import AddOptions, Queue
from muskox.store.protocol import Found, FoundFlows, Store

__all__ = ["After", "Flow", "Flows", "InFlow", "Meaning", "chain", "group"]

PAGE = 1000

T = TypeVar("T")

Meaning = OnFailure | Literal["fail", "continue", "ignore"]
"""What it means for a job that a parent failed; see `OnFailure`."""

AfterGiven = "InFlow | After | Sequence[InFlow | After] | Mapping[str, InFlow | After]"


class InFlow:
    """A job that was put into a flow: give it as `after` to those that wait for it."""

    def __init__(self, flow: Flow, job: NewJob, label: str, waits: list[tuple[str, InFlow, OnFailure]]) -> None:
        self.flow = flow
        self.job = job
        self.label = label
        self.waits = waits

    def __repr__(self) -> str:
        return f"<InFlow {self.job.queue}/{self.job.name} {self.job.id or 'not added yet'}>"

    @property
    def id(self) -> str:
        """The id of the job; of one that was given none in a flow without one, empty until the flow is added."""
        return self.job.id if self.job.id != _LATER else ""


class After:
    """A parent with what its failure means to one child: `after=[text, After(images, on_failure="ignore")]`."""

    def __init__(self, parent: InFlow, *, on_failure: Meaning = OnFailure.FAIL) -> None:
        if not isinstance(parent, InFlow):
            raise OptionError(f"After takes what a flow's add returned, not {type(parent).__name__}")
        self.parent = parent
        self.on_failure = _meaning(on_failure)


class Flow:
    """Jobs that wait for one another, to be added in one step with `ox.flows.add`.

    With an `id` the jobs that are given none have ids made of it, so that adding it again adds nothing. `completed`
    and `settled` are jobs that follow when all have been completed, or have ended.
    """

    def __init__(
        self, id: str | None = None, *, completed: NewJob | None = None, settled: NewJob | None = None
    ) -> None:
        self.id = None if id is None else check_flow_id(id)
        self.completed = completed
        self.settled = settled
        self.jobs: list[InFlow] = []
        """What was added so far, in that order."""

    def __repr__(self) -> str:
        return f"<Flow {self.id or 'without an id yet'}, {len(self.jobs)} jobs>"

    @overload
    def add(
        self, job: NewJob, /, *, after: AfterJobs = ..., on_failure: Meaning = ..., label: str | None = ...
    ) -> InFlow: ...
    @overload
    def add(
        self, queue: Queue, name: str, data: Any = None, /, *, after: AfterJobs = ..., on_failure: Meaning = ...,
        label: str | None = ..., **options: Unpack[AddOptions],
    ) -> InFlow: ...  # fmt: skip
    def add(
        self, given: Any, /, *rest: Any, after: Any = (), on_failure: Any = OnFailure.FAIL,
        label: str | None = None, **options: Any,
    ) -> InFlow:  # fmt: skip
        """Put a job into the flow: what a queue's or processor's `new` made, or a queue with what its `add` takes.

        It waits for those in `after`: what earlier calls returned, also by the names under which it shall know them.
        `on_failure` says what it means when one of them fails, is cancelled or removed: `fail` (it fails too),
        `continue` (it goes on and can see that), `ignore` (as if there had been no result). `label` is the name
        under which its children know it, else its job name. Its delay counts from when its parents have ended.
        """
        meaning = _meaning(on_failure)
        job = _made(given, rest, options)
        named = check_parent_name(job.name if label is None else label)
        waits = self._waits(after, meaning)
        number = len(self.jobs) + 1
        if job.id == _LATER and self.id is not None:
            job = msgspec.structs.replace(job, id=check_id(f"{self.id}/{number}"))
        put = InFlow(self, job, named, waits)
        self.jobs.append(put)
        return put

    def _waits(self, after: Any, meaning: OnFailure) -> list[tuple[str, InFlow, OnFailure]]:
        if isinstance(after, Mapping):
            return [(check_parent_name(name), *self._parent(one, meaning)) for name, one in after.items()]
        found = [self._parent(one, meaning) for one in ([after] if isinstance(after, InFlow | After) else after)]
        labels = [parent.label for parent, _ in found]
        numbered = [
            label if labels.count(label) == 1 else f"{label}-{labels[: place + 1].count(label)}"
            for place, label in enumerate(labels)
        ]
        return [(name, parent, on_failure) for name, (parent, on_failure) in zip(numbered, found, strict=True)]

    def _parent(self, given: Any, meaning: OnFailure) -> tuple[InFlow, OnFailure]:
        parent, on_failure = (given.parent, given.on_failure) if isinstance(given, After) else (given, meaning)
        if not isinstance(parent, InFlow):
            raise OptionError(
                f"after takes what this flow's add returned, not {type(given).__name__}; a job waits for jobs of its "
                "own flow"
            )
        if parent.flow is not self:
            raise OptionError(f"job {parent.id!r} is in another flow; a job waits for jobs of its own flow")
        return parent, on_failure

    def plan(self, new_id: Callable[[], str]) -> tuple[NewFlow, list[FlowJob]]:
        """What a store is asked to keep, parents before children; ids that are still open are given now."""
        if self.id is None:
            self.id = new_id()
        for number, one in enumerate(self.jobs, 1):
            if one.job.id == _LATER:
                one.job = msgspec.structs.replace(one.job, id=check_id(f"{self.id}/{number}"))
        jobs = [
            FlowJob(
                one.job,
                tuple(Wait(parent.job.queue, parent.job.id, name, meaning) for name, parent, meaning in one.waits),
            )
            for one in self.jobs
        ]
        return NewFlow(self.id, completed=self.completed, settled=self.settled), in_order(jobs)

    def in_their_order(self, jobs: Iterable[Job]) -> list[Job]:
        """What was stored, in the order in which it was put into the flow."""
        by_id = {(job.queue, job.id): job for job in jobs}
        return [by_id[one.job.queue, one.job.id] for one in self.jobs]


AfterJobs = InFlow | After | Sequence[InFlow | After] | Mapping[str, InFlow | After]

_LATER = "\u2026"
"""The id of a job whose id is made of that of its flow."""


def chain(*parts: NewJob | Sequence[NewJob], id: str | None = None, on_failure: Meaning = OnFailure.FAIL) -> Flow:
    """A flow in which each job waits for the one before. Those of a list run side by side; the next waits for all."""
    flow = Flow(id)
    before: list[InFlow] = []
    for part in parts:
        jobs = [part] if isinstance(part, NewJob) else list(part)
        if not jobs:
            raise OptionError("a list in a chain needs at least one job; leave it out")
        before = [flow.add(job, after=before, on_failure=on_failure) for job in jobs]
    return flow


def group(
    jobs: Iterable[NewJob], *, then: NewJob | None = None, id: str | None = None, on_failure: Meaning = OnFailure.FAIL
) -> Flow:
    """A flow of jobs that run side by side, and one more, `then`, that waits for all and is given their results."""
    flow = Flow(id)
    before = [flow.add(job) for job in jobs]
    if then is not None:
        flow.add(then, after=before, on_failure=on_failure)
    return flow


class Flows:
    """The flows and batches of a store: add, look, cancel, retry. `Muskox.flows` is one."""

    def __init__(self, open_store: Callable[[], Awaitable[Store]], store: Callable[[], Store], world: World) -> None:
        self._open = open_store
        self._store = store
        self._world = world

    async def add(self, flow: Flow, *, within: Any = None) -> list[Job]:
        """Store a whole flow or nothing of it; returns its jobs in the order in which they were put into it.

        Added again with the same ids it adds nothing. `within` is an open connection or session on the store's
        database, in whose transaction it is added. Raises `OptionError` for a graph that cannot end, `FlowClosed`
        when a flow of that id is there and has other jobs.
        """
        new, jobs = flow.plan(self._world.new_id)
        store = await self._open() if within is None else self._within()
        return flow.in_their_order(added.job for added in await store.grow(new, jobs, within=within))

    def add_within(self, flow: Flow, connection: Any) -> list[Job]:
        """`add` with `within`, in the caller's thread and transaction."""
        new, jobs = flow.plan(self._world.new_id)
        return flow.in_their_order(added.job for added in self._within().grow_within(new, jobs, connection))

    def _within(self) -> Store:
        store = self._store()
        if not store.traits.within:
            raise OptionError("this store cannot add inside a transaction of yours; leave within= out")
        return store

    async def get(self, id: str) -> FlowRecord | None:
        """The flow or batch as it is now, with its figures and its progress; None when there is none."""
        return next(iter((await (await self._open()).flows([check_flow_id(id)])).flows), None)

    async def list(self, *, unended: bool = False, limit: int = 100, after: str | None = None) -> FoundFlows:
        """A page of flows and batches, latest first, and the cursor to give as `after` for the next.

        `unended`: only those that have not ended, open batches too.
        """
        _check_limit(limit)
        return await (await self._open()).flows(unended=unended, after=after, limit=limit)

    async def jobs(
        self,
        id: str,
        state: JobState | str | Iterable[JobState | str] | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
    ) -> Found:
        """A page of the jobs of a flow that are still there, in some state (None: any), in the order of their adding.

        With a state a page may be short and have a cursor all the same.
        """
        _check_limit(limit)
        states = read_states(state)
        return await (await self._open()).flow_jobs(check_flow_id(id), states=states, after=after, limit=limit)

    async def parents(self, queue: str, id: str) -> builtins.list[Parent]:
        """The parents of a job and how they stand, or ended."""
        return await (await self._open()).parents(queue, check_id(id))

    async def close(self, id: str) -> FlowRecord:
        """Let nothing more be added to a batch whose producer is gone; returns it. Raises `FlowNotFound`."""
        found = await (await self._open()).close_flow(check_flow_id(id))
        if found is None:
            raise _missing(id)
        return found

    async def cancel(self, id: str) -> int:
        """Cancel all jobs of a flow that have not ended; nothing can be added to it any more. Returns how many."""
        return await self._all(id, lambda store: store.cancel_flow(id, limit=PAGE))

    async def retry(self, id: str) -> int:
        """Let all jobs of a flow that failed or were cancelled run again, in their order; returns how many."""
        return await self._all(id, lambda store: store.retry_flow(id, limit=PAGE))

    async def _all(self, id: str, move: Callable[[Store], Awaitable[int]]) -> int:
        store = await self._open()
        if not (await store.flows([check_flow_id(id)])).flows:
            raise _missing(id)
        total = 0
        while moved := await move(store):
            total += moved
            if moved < PAGE:
                break
        return total


def _made(given: Any, rest: tuple[Any, ...], options: dict[str, Any]) -> NewJob:
    if isinstance(given, NewJob):
        if rest or options:
            raise OptionError("this job is made already; say what there is to say of it where it is made, with new()")
        return given
    if not isinstance(given, Queue) or not 1 <= len(rest) <= 2:
        raise OptionError(
            "a flow takes what a queue's new() made, or a queue with a job name and data, "
            f"not {type(given).__name__} and {len(rest)} more"
        )
    if options.get("id") is None:
        options = {**options, "id": _LATER}
    return given.new(*rest, **options)


def _meaning(given: Any) -> OnFailure:
    try:
        return OnFailure(given)
    except ValueError:
        raise OptionError(f"on_failure must be one of {', '.join(OnFailure)}, not {given!r}") from None


def _missing(id: str) -> FlowNotFound:
    return FlowNotFound(f"there is no flow or batch {id!r}; it was never added, or cleared some time after its end")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= PAGE:
        raise OptionError(f"limit must be between 1 and {PAGE}, not {limit}; go on with the cursor")
