"""Attempts that somebody follows: the same calls, and who follows is told when they begin and how they end.

Made instead of the plain ones when a worker is put together, so that a worker that nobody follows pays nothing.
"""

from __future__ import annotations

import asyncio
from typing import assert_never, cast

from muskox.core.life import Died, Interrupted, Limited, Outcome, Raised, Returned, TimedOut, is_last
from muskox.core.tracing import Ending, RunEnd, Tracing
from muskox.runtime.attempt import Attempt
from muskox.runtime.batches import Batch
from muskox.runtime.children import Children
from muskox.runtime.run import Run, Stop, stopped
from muskox.runtime.tell import Teller
from muskox.runtime.threads import Threads

__all__ = ["attempt_of"]

_Parts = tuple[Teller, Threads, Children, int]


def attempt_of(tracing: Tracing | None, *parts: *_Parts) -> Attempt:
    """What calls processors, from the parts of an `Attempt`; the plain one where nobody follows runs."""
    return Attempt(*parts) if tracing is None else _TracedAttempt(tracing, *parts)


class _TracedAttempt(Attempt):
    def __init__(self, tracing: Tracing, *parts: *_Parts) -> None:
        super().__init__(*parts)
        self._tracing = tracing

    async def make(self, run: Run) -> Outcome:
        jobs = [one.job for one in cast(Batch, run).runs] if run.declaration.batch else [run.job]
        with self._tracing.running(jobs, attempts=run.rules.attempts) as tell:
            try:
                outcome = await super().make(run)
            except asyncio.CancelledError:
                tell(_ending(run, stopped(run)))
                raise
            tell(_ending_of_batch(cast(Batch, run), outcome) if run.declaration.batch else _ending(run, outcome))
            return outcome

    def _trace(self) -> tuple[str, str] | None:
        trace = self._tracing.current()
        return None if trace is None else (self._tracing.inside, trace)


def _ending_of_batch(batch: Batch, outcome: Outcome) -> Ending:
    """How a batch ended: as the worst of its jobs did, with what was wrong with each."""
    endings = [_ending(run, its) for run, its in batch.ended(outcome)]
    worst = max((one.end for one in endings), key=_BADNESS.index)
    return Ending(worst, tuple(failure for one in endings for failure in one.failures))


_BADNESS = (
    RunEnd.COMPLETED,
    RunEnd.LIMITED,
    RunEnd.RELEASED,
    RunEnd.LOST,
    RunEnd.STALLED,
    RunEnd.RETRYING,
    RunEnd.FAILED,
)


def _ending(run: Run, outcome: Outcome) -> Ending:
    match outcome:
        case Returned(unkept=unkept):
            return Ending(RunEnd.COMPLETED, () if unkept is None else (unkept,))
        case Raised(failure) | TimedOut(failure):
            return Ending(RunEnd.FAILED if is_last(run.job, run.rules, failure) else RunEnd.RETRYING, (failure,))
        case Died(failure):
            return Ending(RunEnd.STALLED if run.job.stalls < run.rules.max_stalls else RunEnd.FAILED, (failure,))
        case Limited():
            return Ending(RunEnd.LIMITED)
        case Interrupted():
            return Ending(RunEnd.LOST if run.stop is Stop.LOST else RunEnd.RELEASED)
        case _:
            assert_never(outcome)
