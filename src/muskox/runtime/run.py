"""A claimed job on its way through a worker, and why it may be told to stop.

It calls nothing; that is `attempt.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import Job, Lease
from muskox.core.life import Interrupted, Outcome, Rules, TimedOut
from muskox.runtime.registry import Declaration

__all__ = ["Run", "Stop", "stopped"]


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
