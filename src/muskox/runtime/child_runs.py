"""What a processor in a child process sees of its run: as `active.py`, but all it tells goes to the worker.

It never sees the store; the worker speaks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn

import msgspec

from muskox.core import codec
from muskox.core.errors import LeaseLost, OptionError, StoreUnavailable
from muskox.core.flows import Parent, Parents
from muskox.core.job import Job, NewJob, check_id
from muskox.runtime.wire import Above, Answer, Branch, ChildTask, Said, Step, Told

__all__ = ["AsyncChildJob", "ChildJob"]

_read_parents = msgspec.json.Decoder(list[Parent]).decode
_read_jobs = msgspec.json.Decoder(list[Job]).decode


class _Run:
    """What both kinds of run have: the job as it was claimed, and whether to stop."""

    def __init__(self, task: ChildTask, ask: Callable[[Said], Answer]) -> None:
        self._job = task.job
        self._attempts = task.attempts
        self._limit = task.data_limit
        self._ask = ask
        self._lost = False

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def queue(self) -> str:
        return self._job.queue

    @property
    def name(self) -> str:
        return self._job.name

    @property
    def data(self) -> Any:
        """The job's data as it was when the run began."""
        return self._job.data

    @property
    def priority(self) -> int:
        return self._job.priority

    @property
    def key(self) -> str | None:
        """The key that groups it with others, if it has one."""
        return self._job.key

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._job.attempt

    @property
    def attempts(self) -> int:
        """How many attempts are allowed in all."""
        return self._attempts

    @property
    def stalls(self) -> int:
        return self._job.stalls

    @property
    def releases(self) -> int:
        return self._job.releases

    @property
    def fence(self) -> int:
        """A number that grows with every claim; hand it to systems that must refuse a late writer."""
        return 0 if self._job.lease is None else self._job.lease.token

    @property
    def added_at(self) -> datetime:
        return self._job.added_at

    @property
    def cancelled(self) -> bool:
        """Whether the run has been told that it may no longer speak; a cancelled child is ended in any case."""
        return self._lost

    def complete(self, result: Any = None, *, within: Any) -> NoReturn:
        """Refused: a child process never sees the store."""
        raise OptionError(
            "an isolated processor cannot complete its job in a transaction, as its process has no store; "
            "leave isolated out, or return the result"
        )

    def _tell(self, told: Said) -> str | None:
        answer = self._ask(told)
        if answer.lost:
            self._lost = True
            raise LeaseLost(
                f"job {self.id} is no longer this run's; it was cancelled, removed or given to another worker"
            )
        if answer.trouble:
            raise StoreUnavailable(answer.trouble)
        if answer.wrong:
            raise OptionError(answer.wrong)
        return answer.value

    def _above(self) -> Parents:
        return Parents(_read_parents(self._tell(Above()) or "[]"))

    def _branch(self, jobs: Iterable[NewJob], id: str | None = None) -> list[Job]:
        made = tuple(jobs)
        for job in made:
            if not isinstance(job, NewJob):
                raise OptionError(f"a run adds jobs that were made by a queue's new(), not {type(job).__name__}")
        if id is not None:
            made = tuple(msgspec.structs.replace(job, id=check_id(id)) for job in made)
        return _read_jobs(self._tell(Branch(made, id is not None)) or "[]")

    def _lined(self, line: str) -> Told:
        self._json(line, "log line")
        return Told(lines=(str(line),))

    def _json(self, value: Any, what: str) -> str:
        return codec.encode(value, what, limit=self._limit)


class ChildJob(_Run):
    """The run, for a `def` processor in a child process; its verbs block until the worker has answered."""

    def progress(self, value: Any) -> None:
        """Tell how far the run is: a number or any small JSON value."""
        self._tell(Told(progress=self._json(value, "progress")))

    def log(self, line: str) -> None:
        """Add a line to the job's log."""
        self._tell(self._lined(line))

    def update(self, data: Any) -> None:
        """Replace the job's data, for later attempts to go on from."""
        self._tell(Told(data=self._json(data, "data")))

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a part of the work once; see `ActiveJob.step`."""
        kept = self._tell(Step(name))
        if kept is None:
            try:
                kept = self._json(work(*args, **kwargs), f"the result of step {name!r}")
            except BaseException:
                self._tell(Step(name, failed=True))
                raise
            self._tell(Step(name, kept))
        return codec.decode(kept)

    def parents(self) -> Parents:
        """The jobs that this one waited for; see `ActiveJob.parents`."""
        return self._above()

    def add_child(self, job: NewJob, *, id: str | None = None) -> Job:
        """Add a job beside this one; see `ActiveJob.add_child`."""
        [added] = self._branch([job], id)
        return added

    def add_children(self, jobs: Iterable[NewJob]) -> list[Job]:
        """Add jobs beside this one; see `ActiveJob.add_children`."""
        return self._branch(jobs)


class AsyncChildJob(_Run):
    """The run, for an `async def` processor in a child process."""

    async def progress(self, value: Any) -> None:
        """Tell how far the run is: a number or any small JSON value."""
        await asyncio.to_thread(self._tell, Told(progress=self._json(value, "progress")))

    async def log(self, line: str) -> None:
        """Add a line to the job's log."""
        await asyncio.to_thread(self._tell, self._lined(line))

    async def update(self, data: Any) -> None:
        """Replace the job's data, for later attempts to go on from."""
        await asyncio.to_thread(self._tell, Told(data=self._json(data, "data")))

    async def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a part of the work once; see `ActiveJob.step`."""
        kept = await asyncio.to_thread(self._tell, Step(name))
        if kept is None:
            try:
                value = work(*args, **kwargs)
                if isinstance(value, Awaitable):
                    value = await value
                kept = self._json(value, f"the result of step {name!r}")
            except BaseException:
                await asyncio.to_thread(self._tell, Step(name, failed=True))
                raise
            await asyncio.to_thread(self._tell, Step(name, kept))
        return codec.decode(kept)

    async def parents(self) -> Parents:
        """The jobs that this one waited for; see `ActiveJob.parents`."""
        return await asyncio.to_thread(self._above)

    async def add_child(self, job: NewJob, *, id: str | None = None) -> Job:
        """Add a job beside this one; see `ActiveJob.add_child`."""
        [added] = await asyncio.to_thread(self._branch, [job], id)
        return added

    async def add_children(self, jobs: Iterable[NewJob]) -> list[Job]:
        """Add jobs beside this one; see `ActiveJob.add_children`."""
        return await asyncio.to_thread(self._branch, list(jobs))
