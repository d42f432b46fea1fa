"""What a processor sees of its run: the job, and the verbs that speak for it.

`ActiveJob` is for processors on the loop, `SyncActiveJob` for those in threads;
in a child process an object of the same shape stands for it (`child.py`).
Neither can settle the job: that is what returning and raising are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import msgspec

from muskox.core import codec
from muskox.core.errors import LeaseLost, OptionError
from muskox.core.flows import Parents
from muskox.core.job import Job, NewJob, check_id
from muskox.core.life import Complete, Returned

if TYPE_CHECKING:
    from muskox.runtime.kin import Kin
    from muskox.runtime.run import Run
    from muskox.runtime.steps import StepKeeper
    from muskox.runtime.tell import Teller

__all__ = ["ActiveJob", "SyncActiveJob"]

P = ParamSpec("P")
T = TypeVar("T")


class _Facts:
    """The facts of a run; annotate a parameter with a subclass to be given it."""

    __muskox_run__ = True
    __slots__ = ("_keeper", "_kin", "_run", "_teller")

    def __init__(self, run: Run, teller: Teller) -> None:
        self._run = run
        self._teller = teller
        self._keeper: StepKeeper | None = None
        self._kin: Kin | None = None

    @property
    def id(self) -> str:
        return self._run.job.id

    @property
    def queue(self) -> str:
        return self._run.job.queue

    @property
    def name(self) -> str:
        return self._run.job.name

    @property
    def data(self) -> Any:
        """The job's data as plain values, as it was when the run began."""
        return self._run.job.data

    @property
    def priority(self) -> int:
        return self._run.job.priority

    @property
    def key(self) -> str | None:
        """The key that groups it with others, if it has one."""
        return self._run.job.key

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1; above 1 the work may have been begun before."""
        return self._run.job.attempt

    @property
    def attempts(self) -> int:
        """How many attempts are allowed in all."""
        return self._run.rules.attempts

    @property
    def stalls(self) -> int:
        """How often a worker was lost with this job; above 0 the work may have been begun before."""
        return self._run.job.stalls

    @property
    def releases(self) -> int:
        return self._run.job.releases

    @property
    def fence(self) -> int:
        """A number that grows with every claim of this job.

        Give it to whatever the processor writes to, and let that refuse smaller ones: a run that was thought
        dead then does no harm when it wakes up.
        """
        return self._run.lease.token

    @property
    def added_at(self) -> datetime:
        return self._run.job.added_at

    @property
    def cancelled(self) -> bool:
        """Whether the run should stop: cancelled, timed out, lease lost, or the worker stops at once."""
        return self._run.stop is not None

    def _steps(self) -> StepKeeper:
        if self._keeper is None:
            self._keeper = self._teller.steps_of(self._run.lease)
        return self._keeper

    def _others(self) -> Kin:
        if self._kin is None:
            self._kin = self._teller.kin_of(self._run.lease)
        return self._kin

    def _completion(self, result: Any) -> Complete:
        text = None if result is None else self._encode(result, "result")
        return Complete(self._run.lease, text, None, self._run.rules.keep_completed)

    def _encode(self, value: Any, what: str) -> str:
        if self._run.stop is not None and self._run.stop == "lost":
            raise LeaseLost(f"job {self.id} is no longer this run's: {what} was not kept")
        return codec.encode(value, what, limit=self._teller.data_limit)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.queue}/{self.name} {self.id} attempt {self.attempt}>"


class ActiveJob(_Facts):
    """The run of an `async` processor."""

    __slots__ = ()

    async def progress(self, value: Any) -> None:
        """Tell how far the run is: a number from 0 to 100, or any JSON. Seen from outside within moments.

        Raises `LeaseLost` when the run may no longer speak for the job, `DataError` for what JSON can't hold.
        """
        self._teller.progress(self._run.lease, self._encode(value, "progress"))

    async def log(self, line: str) -> None:
        """Add a line to the job's log, which keeps the first 1000. Raises as `progress` does."""
        self._encode(line, "log line")
        self._teller.line(self._run.lease, str(line))

    async def update(self, data: Any) -> None:
        """Replace the job's data, for the next attempt to begin with. Raises as `progress` does."""
        await self._teller.update(self._run.lease, self._encode(data, "data"))

    async def complete(self, result: Any = None, *, within: Any) -> None:
        """Complete the job in a transaction of yours: your rows and its completion are committed together.

        `within` is an open connection or session on the store's database (SQLite, PostgreSQL). Say it last, then
        commit and return: until then nobody can renew the lease. What the processor returns is dropped. When the
        transaction is rolled back, raise, and the attempt has failed as any other. Raises `LeaseLost` when the run
        may no longer speak for the job: let it roll your transaction back. Raises `OptionError` for what is no such
        connection and on stores that have no part in transactions, `DataError` for what JSON can't hold.
        """
        done = self._completion(result)
        await self._teller.complete(done, _given(within))
        self._run.done = Returned(done.result)

    @overload
    async def step(self, name: str, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def step(self, name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a part of the work once: what it returned is kept with the job, and later attempts are given that.

        Each time it is given as JSON holds it. The name is the step's own in this job. `work` may run again when
        the run is killed before its result is kept, so hand on `f"{job.id}/{name}"` where others can tell twins.
        Raises what `work` raises (nothing is kept then), `OptionError` for a name used twice in this run, `DataError`
        for what JSON can't hold or for too much of it, `LeaseLost` when the run may no longer speak for the job.
        """
        kept = await self._steps().begin(name)
        if kept is None:
            try:
                value = work(*args, **kwargs)
                if isinstance(value, Awaitable):
                    value = await value
                kept = self._encode(value, f"the result of step {name!r}")
            except BaseException:
                self._steps().undo(name)
                raise
            await self._steps().keep(name, kept)
        return codec.decode(kept)

    async def parents(self) -> Parents:
        """The jobs that this one waited for, with their results; none when it is in no flow. Read anew each time."""
        return Parents(await self._others().parents())

    async def add_child(self, job: NewJob, *, id: str | None = None) -> Job:
        """Add a job that was made by a queue's or processor's `new`; whoever waits for this job waits for it too.

        It joins the flow or batch of this job, where it is in one, and may begin at once. Its id is made of this
        job's and of what it is, so that a later attempt of this job adds it no second time; give an `id` where its
        data differs from run to run. Raises `LeaseLost` when the run may no longer speak for the job.
        """
        [added] = await self._others().add([_renamed(job, id)], named=id is not None)
        return added

    async def add_children(self, jobs: Iterable[NewJob]) -> list[Job]:
        """Add several jobs as `add_child` does: all or none, in one step."""
        return await self._others().add([_checked(job) for job in jobs])


class SyncActiveJob(_Facts):
    """The run of a plain `def` processor, in its thread: the same verbs, blocking."""

    __slots__ = ()

    def progress(self, value: Any) -> None:
        """See `ActiveJob.progress`."""
        text = self._encode(value, "progress")
        self._teller.loop.call_soon_threadsafe(self._teller.progress, self._run.lease, text)

    def log(self, line: str) -> None:
        """See `ActiveJob.log`."""
        self._encode(line, "log line")
        self._teller.loop.call_soon_threadsafe(self._teller.line, self._run.lease, str(line))

    def update(self, data: Any) -> None:
        """See `ActiveJob.update`."""
        update = self._teller.update(self._run.lease, self._encode(data, "data"))
        asyncio.run_coroutine_threadsafe(update, self._teller.loop).result()

    def complete(self, result: Any = None, *, within: Any) -> None:
        """See `ActiveJob.complete`; in this thread, on a blocking connection."""
        done = self._completion(result)
        self._teller.complete_here(done, _given(within))
        self._run.done = Returned(done.result)

    def step(self, name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `ActiveJob.step`."""
        loop, steps = self._teller.loop, self._steps()
        kept = asyncio.run_coroutine_threadsafe(steps.begin(name), loop).result()
        if kept is None:
            try:
                kept = self._encode(work(*args, **kwargs), f"the result of step {name!r}")
            except BaseException:
                loop.call_soon_threadsafe(steps.undo, name)
                raise
            asyncio.run_coroutine_threadsafe(steps.keep(name, kept), loop).result()
        found: T = codec.decode(kept)
        return found

    def parents(self) -> Parents:
        """See `ActiveJob.parents`."""
        return Parents(asyncio.run_coroutine_threadsafe(self._others().parents(), self._teller.loop).result())

    def add_child(self, job: NewJob, *, id: str | None = None) -> Job:
        """See `ActiveJob.add_child`."""
        [added] = self._add([_renamed(job, id)], named=id is not None)
        return added

    def add_children(self, jobs: Iterable[NewJob]) -> list[Job]:
        """See `ActiveJob.add_children`."""
        return self._add([_checked(job) for job in jobs], named=False)

    def _add(self, jobs: list[NewJob], *, named: bool) -> list[Job]:
        adding = self._others().add(jobs, named=named)
        return asyncio.run_coroutine_threadsafe(adding, self._teller.loop).result()


def _checked(job: Any) -> NewJob:
    if not isinstance(job, NewJob):
        raise OptionError(f"a run adds jobs that were made by a queue's new(), not {type(job).__name__}")
    return job


def _renamed(job: Any, id: str | None) -> NewJob:
    made = _checked(job)
    return made if id is None else msgspec.structs.replace(made, id=check_id(id))


def _given(within: Any) -> Any:
    if within is None:
        raise OptionError("complete needs within=, a connection or session of yours; without one, return the result")
    return within
