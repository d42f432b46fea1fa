"""Follows the events of a store, and waits for a job to end, from any process.

A store that gives no answer is asked again: a follower goes on where it was
and does not become deaf.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from typing import Any

from muskox.core.errors import (
    JobCancelled,
    JobFailed,
    JobNotFound,
    OptionError,
    ResultTimeout,
    ResultUnavailable,
    StoreUnavailable,
)
from muskox.core.events import Event, JobEvent, Trimmed, check_kind
from muskox.core.job import Job, JobState
from muskox.core.seam import World
from muskox.store.protocol import Store

__all__ = ["OpenStore", "follow", "wait_for_result"]

log = logging.getLogger("muskox.events")

OpenStore = Callable[[], Awaitable[Store]]
"""Gives the store, opened if it was not."""

POLL = 5.0
_ENDINGS = frozenset({"completed", "failed", "cancelled", "removed"})


def follow(
    open_store: OpenStore, world: World, *, queue: str | None, after: int | None, kinds: Collection[str] | None
) -> AsyncGenerator[Event, None]:
    """Yield events with offsets above `after` (None: from now on) as they happen; never ends by itself.

    `Trimmed` comes where events were cleared before they could be read, whatever `kinds` says. Raises
    `OptionError` at once for a kind that there is not, or an `after` that is no offset.
    """
    if after is not None and (isinstance(after, bool) or not isinstance(after, int) or after < 0):
        raise OptionError(f"after must be the offset of an event, 0 or more, not {after!r}; leave it out for now")
    given = [kinds] if isinstance(kinds, str) else kinds
    wanted = None if given is None else frozenset(check_kind(kind) for kind in given)
    return _follow(open_store, world, queue, after, wanted)


async def _follow(
    open_store: OpenStore, world: World, queue: str | None, after: int | None, wanted: frozenset[str] | None
) -> AsyncGenerator[Event, None]:
    failures = 0
    while True:
        try:
            store = await open_store()
            if after is None:
                [latest] = await store.events(after=-1, queue=queue)
                after = latest.offset
            found = await store.events(after=after, queue=queue, seconds=POLL)
        except StoreUnavailable as error:
            failures += 1
            log.warning("events cannot be read, they will be asked for again: %s", error)
            await world.sleep(_rest(failures))
            continue
        failures = 0
        for event in found:
            after = event.offset
            if wanted is None or event.kind in wanted or isinstance(event, Trimmed):
                yield event


async def wait_for_result(store: Store, world: World, queue: str, id: str, timeout: float | None) -> Any:
    """Give the result of a job once it is completed; goes on waiting, within the timeout, when the store is away.

    Raises `JobFailed`, `JobCancelled`, `ResultTimeout`, or `JobNotFound` when there is no such job.
    """
    patience = _Patience(world, timeout)
    failures = 0
    while True:
        try:
            return await _wait(store, queue, id, patience)
        except StoreUnavailable as error:
            failures += 1
            if patience.left() <= _rest(failures):
                raise
            log.warning("the result of job %s cannot be read, it will be asked for again: %s", id, error)
            await world.sleep(_rest(failures))


class _Patience:
    def __init__(self, world: World, timeout: float | None) -> None:
        self.timeout = math.inf if timeout is None else timeout
        self._world = world
        self._until = world.monotonic() + self.timeout

    def left(self) -> float:
        """Seconds that are left; no end of them where there is no timeout."""
        return self._until - self._world.monotonic()


def _rest(failures: int) -> float:
    """Seconds to leave a store alone that has given no answer so often."""
    return min(5.0, 0.1 * 2.0 ** min(failures, 10))


async def _wait(store: Store, queue: str, id: str, patience: _Patience) -> Any:
    [latest] = await store.events(after=-1)
    after, ending = latest.offset, None
    while True:
        [job] = await store.get(queue, [id])
        if job is None or job.settled:
            return _result(job, queue, id, ending)
        ending = None
        while ending is None:
            left = patience.left()
            if left <= 0:
                raise ResultTimeout(
                    f"job {id} did not end within {patience.timeout:g} seconds; it is {job.state}, and goes on"
                )
            found = await store.events(after=after, queue=queue, seconds=min(left, POLL))
            after = found[-1].offset if found else after
            ending = next((event.kind for event in found if _ends(event, id)), None)
            if not found or isinstance(found[0], Trimmed):
                break  # nothing told in all this time: look for ourselves, a hint may have been lost


def _ends(event: Event, id: str) -> bool:
    return event.kind in _ENDINGS and isinstance(event, JobEvent) and event.job_id == id


def _result(job: Job | None, queue: str, id: str, ending: str | None) -> Any:
    if job is None:
        if ending == "completed":
            raise ResultUnavailable(
                f"job {id} was completed and removed at once (keep_for 0), so its result is not kept"
            )
        if ending in {"removed", "cancelled"}:
            raise JobCancelled(f"job {id} was removed before it was completed")
        raise JobNotFound(f"queue {queue!r} has no job {id!r}; it was never added, or cleared after its time")
    if job.state is JobState.COMPLETED:
        if job.failure is not None:
            raise ResultUnavailable(f"job {id} was completed, but its result could not be kept: {job.failure}")
        return job.result
    if job.state is JobState.CANCELLED:
        raise JobCancelled(f"job {id} was cancelled")
    raise JobFailed(f"job {id} failed after {job.attempt} attempts: {job.failure}", job.failure)
