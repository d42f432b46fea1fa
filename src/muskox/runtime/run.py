"""One attempt: call the processor, stop it when told to, say what happened.

It decides nothing (`core/life.py`) and writes nothing (`settler.py`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from muskox.core import codec
from muskox.core.errors import DataError
from muskox.core.failure import Failure, FailureKind, describe
from muskox.core.job import Job, Lease
from muskox.core.life import Interrupted, Outcome, Raised, Returned, Rules, TimedOut
from muskox.runtime.active import ActiveJob, SyncActiveJob
from muskox.runtime.children import Children, ChildTask, Told, place
from muskox.runtime.registry import Declaration, Mode
from muskox.runtime.threads import Threads

if TYPE_CHECKING:
    from muskox.runtime.tell import Teller

__all__ = ["Attempt", "Run", "Stop", "stopped"]


class Stop(StrEnum):
    """Why a run is told to stop."""

    TIMEOUT = "timeout"
    LOST = "lost"
    SHUTDOWN = "shutdown"


class Run:
    """A claimed job on its way through this worker."""

    __slots__ = ("declaration", "halt", "job", "lease", "rules", "since", "stop", "until")

    def __init__(
        self, job: Job, lease: Lease, declaration: Declaration, rules: Rules, since: float, until: float
    ) -> None:
        self.job = job
        self.lease = lease
        self.declaration = declaration
        self.rules = rules
        self.since = since
        """When it was asked for, by the monotonic clock."""
        self.until = until
        """When the lease is over if it cannot be renewed, by the same clock."""
        self.stop: Stop | None = None
        self.halt: Callable[[], object] | None = None
        """Ends the call in progress; None while there is none."""

    def told_to_stop(self) -> bool:
        """Whether the run was told to stop, for whatever reason."""
        return self.stop is not None

    def end(self, stop: Stop) -> None:
        """Tell the run to stop, for the first reason that comes up."""
        if self.stop is None:
            self.stop = stop
            if self.halt is not None:
                self.halt()


def stopped(run: Run) -> Outcome:
    """The outcome of a run that was told to stop and did."""
    if run.stop is Stop.TIMEOUT:
        said = f"stopped after {run.rules.timeout:g} seconds, its timeout"
        return TimedOut(Failure(FailureKind.TIMEOUT, "Timeout", said))
    return Interrupted()


class Attempt:
    """Calls processors of each mode; one for a whole worker."""

    def __init__(
        self,
        teller: Teller,
        threads: Threads,
        children: Children,
        data_limit: int,
    ) -> None:
        self._teller = teller
        self._threads = threads
        self._children = children
        self._data_limit = data_limit

    async def make(self, run: Run) -> Outcome:
        """Call the processor once. Only cancellation from outside gets out of here."""
        declaration = run.declaration
        if declaration.mode is Mode.ISOLATED:
            return await self._make_in_child(run)
        binding = declaration.binding
        try:
            arguments, named = binding.arguments(run.job.data_text, self._seen(run) if binding.takes_run else None)
        except DataError as error:
            refused = msgspec.structs.replace(describe(error, FailureKind.REFUSED), final=True)
            return Raised(refused, error)
        try:
            if declaration.mode is Mode.ASYNC:
                value = await declaration.function(*arguments, **named)
            else:
                value = await self._threads.call(declaration.function, *arguments, **named)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if run.stop is not None or (task is not None and task.cancelling()):
                raise
            return Raised(describe(error), error)
        except BaseException as error:  # a processor is foreign code and may raise anything, SystemExit included
            return Raised(describe(error, final_on=declaration.final_on), error)
        return Returned() if value is None else self._returned(value)

    async def _make_in_child(self, run: Run) -> Outcome:
        module, name, main_path = place(run.declaration.function)
        task = ChildTask(
            module,
            name,
            run.job,
            attempts=run.rules.attempts,
            main_path=main_path,
            sys_path=tuple(sys.path),
            data_limit=self._data_limit,
        )
        return await self._children.run(task, lambda told: self._pass_on(run.lease, told))

    async def _pass_on(self, lease: Lease, told: Told) -> None:
        if told.progress is not None:
            self._teller.progress(lease, told.progress)
        for line in told.lines:
            self._teller.line(lease, line)
        if told.data is not None:
            await self._teller.update(lease, told.data)

    def _seen(self, run: Run) -> Any:
        """What the processor sees of its run."""
        return (ActiveJob if run.declaration.mode is Mode.ASYNC else SyncActiveJob)(run, self._teller)

    def _returned(self, value: Any) -> Returned:
        try:
            return Returned(codec.encode(value, "result", limit=self._data_limit))
        except DataError as error:
            # The work is done: it must not be done again because of what it returned.
            return Returned(None, describe(error, FailureKind.RESULT))
