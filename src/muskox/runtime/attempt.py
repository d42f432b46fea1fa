"""One attempt: call the processor, stop it when told to, say what happened.

It decides nothing (`core/life.py`) and writes nothing (`settler.py`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable
from typing import Any, assert_never, cast

import msgspec

from muskox.core import codec
from muskox.core.errors import DataError, RateLimited
from muskox.core.failure import FailureKind, describe
from muskox.core.job import Lease
from muskox.core.life import Hold, Limited, Outcome, Raised, Returned
from muskox.runtime.active import ActiveJob, SyncActiveJob
from muskox.runtime.batches import Batch
from muskox.runtime.children import Children, ChildTask, Told, place
from muskox.runtime.kin import Kin
from muskox.runtime.registry import Declaration, Mode
from muskox.runtime.run import Run
from muskox.runtime.steps import StepKeeper
from muskox.runtime.tell import Teller
from muskox.runtime.threads import Threads
from muskox.runtime.wire import Above, Branch, Said, Step

__all__ = ["Attempt"]

log = logging.getLogger("muskox.worker")

_NOTHING = Returned()


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
        binding = declaration.binding
        try:
            if declaration.mode is Mode.ISOLATED:
                return await self._make_in_child(run)
            if declaration.batch:
                arguments: tuple[Any, ...] = (self._items(cast(Batch, run)),)
                named: dict[str, Any] = {}
                if not arguments[0]:
                    return _NOTHING
            else:
                arguments, named = binding.arguments(run.job.data_text, self._seen(run) if binding.takes_run else None)
        except Exception as error:  # noqa: BLE001 - annotations may be classes of the user's, which check in ways of their own
            return _refused(error)
        try:
            if declaration.mode is Mode.ASYNC:
                value = await declaration.function(*arguments, **named)
            else:
                value = await self._call_in_thread(run, arguments, named)
                if isinstance(value, Awaitable):
                    # A decorator may hide that a function is async; what it gave has not run yet.
                    value = await value
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if run.stop is not None or (task is not None and task.cancelling()):
                raise
            return Raised(describe(error), error)
        except BaseException as error:  # noqa: BLE001 - a processor is foreign code and may raise anything, SystemExit included
            return _raised(error, declaration)
        return _NOTHING if value is None and run.done is None else self._returned(run, value)

    def _items(self, batch: Batch) -> list[Any]:
        """What the processor is given for the jobs of a batch; those whose data does not fit have their outcome."""
        batch.leave()
        binding, items = batch.declaration.binding, []
        for at, run in enumerate(batch.runs):
            try:
                [item], _ = binding.arguments(run.job.data_text, self._seen(run) if binding.takes_run else None)
            except Exception as error:  # noqa: BLE001 - as above
                batch.outcomes[at] = _refused(error)
            else:
                items.append(item)
        return items

    def _share(self, batch: Batch, value: Any) -> None:
        """Give each job of a batch its own of what the processor returned: a result, or an error for it alone."""
        places = [at for at, outcome in enumerate(batch.outcomes) if outcome is None]
        if not isinstance(value, list | tuple) or len(value) != len(places):
            given = f"a list of {len(value)}" if isinstance(value, list | tuple) else type(value).__name__
            error = DataError(f"a batch of {len(places)} returns None or a list of as many results, not {given}")
            # The work is done, as below.
            value = [Returned(None, describe(error, FailureKind.RESULT))] * len(places)
        for at, its in zip(places, value, strict=True):
            if isinstance(its, BaseException):
                batch.outcomes[at] = _raised(its, batch.declaration)
            elif isinstance(its, Returned):
                batch.outcomes[at] = its
            else:
                batch.outcomes[at] = _NOTHING if its is None else self._kept(its)

    async def _call_in_thread(self, run: Run, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            return await self._threads.call(run.declaration.function, *arguments, **named)
        except asyncio.CancelledError:
            where, leaked = run.declaration.where, self._threads.leaked
            log.warning("job %s is given up, but %s runs on in its thread, as %d do now", run.job.id, where, leaked)
            raise

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
            trace=self._trace(),
        )
        steps = self._teller.steps_of(run.lease)
        kin = self._teller.kin_of(run.lease)
        return await self._children.run(task, lambda told: self._pass_on(run.lease, steps, kin, told))

    async def _pass_on(self, lease: Lease, steps: StepKeeper, kin: Kin, told: Said) -> str | None:
        match told:
            case Step():
                return await _take_step(steps, told)
            case Branch(jobs, named):
                return msgspec.json.encode(await kin.add(jobs, named=named)).decode()
            case Above():
                return msgspec.json.encode(await kin.parents()).decode()
            case Told():
                await self._take(lease, told)
                return None
            case _:
                assert_never(told)

    async def _take(self, lease: Lease, told: Told) -> None:
        if told.progress is not None:
            self._teller.progress(lease, told.progress)
        for line in told.lines:
            self._teller.line(lease, line)
        if told.data is not None:
            await self._teller.update(lease, told.data)

    def _trace(self) -> tuple[str, str] | None:
        """What a child process is told of the trace that a run is in; see `traced.py`."""
        return None

    def _seen(self, run: Run) -> Any:
        """What the processor sees of its run."""
        return (ActiveJob if run.declaration.mode is Mode.ASYNC else SyncActiveJob)(run, self._teller)

    def _returned(self, run: Run, value: Any) -> Returned:
        if run.done is not None:
            return run.done
        if run.declaration.batch:
            self._share(cast(Batch, run), value)
            return _NOTHING
        return self._kept(value)

    def _kept(self, value: Any) -> Returned:
        try:
            return Returned(codec.encode(value, "result", limit=self._data_limit))
        except Exception as error:  # noqa: BLE001 - values of foreign classes
            # The work is done: it must not be done again because of what it returned.
            return Returned(None, describe(error, FailureKind.RESULT))


def _raised(error: BaseException, declaration: Declaration) -> Outcome:
    if isinstance(error, RateLimited):
        return Limited(error.retry_after, Hold(error.hold))
    return Raised(describe(error, final_on=declaration.final_on), error)


def _refused(error: Exception) -> Raised:
    return Raised(msgspec.structs.replace(describe(error, FailureKind.REFUSED), final=True), error)


async def _take_step(steps: StepKeeper, told: Step) -> str | None:
    """Do what a child says of a step; gives the kept result of one that begins."""
    if told.failed:
        steps.undo(told.name)
    elif told.result is not None:
        await steps.keep(told.name, told.result)
    else:
        return await steps.begin(told.name)
    return None
