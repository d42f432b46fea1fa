"""What somebody who follows jobs through a system has to say, so that adding and running a job can be told.

A seam as `seam.py` has one: nothing here knows a library for traces. While
nobody follows, none of it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from typing import Protocol

import msgspec

from muskox.core.failure import Failure
from muskox.core.job import Job, NewJob, Options

__all__ = ["Ending", "RunEnd", "Tracing", "followed", "untraced"]


class RunEnd(StrEnum):
    """How a run ended, for who follows it."""

    COMPLETED = "completed"
    RETRYING = "retrying"
    FAILED = "failed"
    STALLED = "stalled"
    LIMITED = "limited"
    RELEASED = "released"
    LOST = "lost"


class Ending(msgspec.Struct, frozen=True):
    """How a run ended, and what was wrong if anything was: more than one thing only where a batch ran."""

    end: RunEnd
    failures: tuple[Failure, ...] = ()


class Tracing(Protocol):
    """Follows jobs from the adding to the end of each run."""

    @property
    def inside(self) -> str:
        """Where a child process finds what puts a run into the trace that it belongs to: "module:function"."""
        ...

    def current(self) -> str | None:
        """The trace that the caller is in, as text that a job can keep; None outside of any."""
        ...

    def adding(self, jobs: Sequence[NewJob]) -> AbstractContextManager[str | None]:
        """Around the adding of jobs; gives the trace that they shall keep, or None to leave them as they are."""
        ...

    def running(self, jobs: Sequence[Job], *, attempts: int) -> AbstractContextManager[Callable[[Ending], None]]:
        """Around a run of a job, or of a batch of them; gives what is told how it ended, just before it does."""
        ...


@contextmanager
def followed(tracing: Tracing, jobs: list[NewJob]) -> Iterator[list[NewJob]]:
    """Around the adding of jobs; gives them as they are to be added.

    A job that was made in another trace, and may have been carried here since, stays in that one.
    """
    here = tracing.current()
    with tracing.adding(jobs) as trace:
        yield jobs if trace is None else _stamped(jobs, here, trace)


def _stamped(jobs: list[NewJob], here: str | None, trace: str) -> list[NewJob]:
    found: list[NewJob] = []
    last: Options | None = None
    shared: Options | None = None
    for job in jobs:
        if job.options.trace is not None and job.options.trace != here:
            found.append(job)
            continue
        if shared is None or job.options is not last:
            last, options = job.options, msgspec.structs.replace(job.options, trace=trace)
            # What jobs have in common stays one object, as stores add such jobs faster.
            shared = options if options != shared else shared
        found.append(msgspec.structs.replace(job, options=shared))
    return found


def untraced(options: Options) -> Options:
    """The same options, of no job in particular."""
    return options if options.trace is None else msgspec.structs.replace(options, trace=None)
