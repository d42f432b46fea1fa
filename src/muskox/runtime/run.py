"""A claimed job on its way through a worker, and why it may be told to stop.

It calls nothing; that is `attempt.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import Job, Lease
from muskox.core.life import Interrupted, Outcome, Returned, Rules, TimedOut
from muskox.runtime.registry import Declaration

__all__ = ["Run", "Stop", "stopped"]


class Stop(StrEnum):
    """Why a run is told to stop."""

    TIMEOUT = "timeout"
    LOST = "lost"
    SHUTDOWN = "shutdown"


class Run(msgspec.Struct, gc=False, eq=False):
    """A claimed job on its way through this worker.

    `since` is when it was asked for and `until` when its lease is over if it cannot be renewed, both by the
    monotonic clock. `halt` ends the call in progress; it is None while there is none, so that a run is never
    part of a cycle that lasts. `over` is set when the run has ended, written or not, `done`
    when it has completed its job in a transaction of its own. How long the call takes is measured where
    `weight` says for how many runs it stands.
    """

    job: Job
    lease: Lease
    declaration: Declaration
    rules: Rules
    since: float
    until: float
    stop: Stop | None = None
    halt: Callable[[], object] | None = None
    over: bool = False
    done: Returned | None = None
    weight: int = 0

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
