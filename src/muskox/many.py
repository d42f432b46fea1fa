"""What may be done with many jobs of a queue at once: all of a state, of a name, of an age.

Each verb goes on page by page until nothing is left to do, so one that was cut short is said again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta

from muskox.cancelling import cancel_added_before, cancellable, microseconds
from muskox.core.errors import OptionError
from muskox.core.job import JobState, seconds
from muskox.limiting import Limiting
from muskox.store.protocol import Selection, Store

__all__ = ["BATCH", "Many", "names_of", "read_states"]

BATCH = 1000
"""So many jobs are moved in one step."""

_PAGE = 100
"""So many are read before they are deleted by age; each may have a megabyte of data."""

_ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class Many(Limiting):
    """The part of a queue that is about many jobs at once."""

    async def retry_all(self, name: str | None = None) -> int:
        """Let all failed jobs run once more, or all of one name; returns how many."""
        chosen = Selection(self.name, states=(JobState.FAILED,), names=names_of(name), limit=BATCH)
        return await self._all(lambda store: store.retry(chosen))

    async def promote_all(self, name: str | None = None) -> int:
        """Let all delayed jobs wait now, or all of one name; returns how many."""
        chosen = Selection(self.name, states=(JobState.DELAYED,), names=names_of(name), limit=BATCH)
        return await self._all(lambda store: store.promote(chosen))

    async def cancel_all(
        self,
        name: str | None = None,
        *,
        state: JobState | str | Collection[JobState | str] | None = None,
        added_before: datetime | None = None,
    ) -> int:
        """End all jobs that have not ended, as `cancel` does; returns how many.

        Only those of a name, in some state (waiting, delayed, blocked, active), added before an aware moment, where
        these are given. In steps of some hundred jobs: cut short, say it again.
        """
        states = cancellable(read_states(state))
        chosen = Selection(self.name, states=states, names=names_of(name), limit=BATCH)
        if added_before is not None:
            return await cancel_added_before(await self._open(), chosen, microseconds(added_before))
        return await self._all(lambda store: store.cancel(chosen))

    async def remove_all(self, state: JobState | str | Collection[JobState | str], *, name: str | None = None) -> int:
        """Delete all jobs in some state, or those of one name among them; returns how many."""
        chosen = Selection(self.name, states=read_states(state), names=names_of(name), limit=BATCH)
        return await self._all(lambda store: store.remove(chosen))

    async def clean(
        self,
        state: JobState | str | Collection[JobState | str] = JobState.COMPLETED,
        *,
        older_than: float | timedelta = 0.0,
    ) -> int:
        """Delete jobs in some ended state whose end is at least so long ago; returns how many.

        Oldest first, and only as far as that age: it costs what it deletes. What `retention` says is done by itself.
        """
        states, age = read_states(state), round(seconds(older_than, "older_than") * 1_000_000)
        wrong = [one for one in states if one not in _ENDED]
        if wrong or not states:
            raise OptionError(
                f"clean deletes jobs that have ended ({', '.join(_ENDED)}), not {wrong[0] if wrong else 'any'}"
            )
        if age < 0:
            raise OptionError(f"older_than must be 0 seconds or more, not {older_than!r}")
        store = await self._open()
        before = round((await store.limits(self.name)).at.timestamp() * 1_000_000) - age
        return sum([await self._clean(store, state, before) for state in states])

    async def _clean(self, store: Store, state: JobState, before_us: int) -> int:
        total = 0
        while page := await store.pack(self.name, state, limit=_PAGE):
            ids = tuple(packed.job.id for packed in page if (packed.job.ended_us or 0) <= before_us)
            # Only those that are still in this state: one that was retried meanwhile is left alone.
            removed = await store.remove(Selection(self.name, ids=ids, states=(state,), limit=len(ids))) if ids else 0
            total += removed
            if not removed or len(ids) < len(page):
                break
        return total

    async def drain(self, *, delayed: bool = False) -> int:
        """Delete all jobs that wait, with `delayed` the delayed ones too; returns how many."""
        states = (JobState.WAITING, JobState.DELAYED) if delayed else (JobState.WAITING,)
        chosen = Selection(self.name, states=states, limit=BATCH)
        return await self._all(lambda store: store.remove(chosen))

    async def _all(self, move: Callable[[Store], Awaitable[int]]) -> int:
        store = await self._open()
        total = 0
        while moved := await move(store):
            total += moved
            if moved < BATCH:
                break
        return total


def names_of(name: str | None) -> tuple[str, ...]:
    """A selection's names: the one that was asked for; none for any."""
    return () if name is None else (name,)


def read_states(state: JobState | str | Iterable[JobState | str] | None) -> tuple[JobState, ...]:
    """The states that were asked for; none for any."""
    if state is None:
        return ()
    given = [state] if isinstance(state, str) else state
    try:
        return tuple(JobState(one) for one in given)
    except ValueError as error:
        raise OptionError(f"{error}; the states are {', '.join(JobState)}") from None
