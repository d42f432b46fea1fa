"""The verbs of a store, each with its promise; see the package for what holds of them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from muskox.core.events import Event
from muskox.core.job import Job, JobState, Lease, NewJob, Retention
from muskox.core.life import Settlement
from muskox.store.protocol.flows import FlowVerbs
from muskox.store.protocol.history import HistoryVerbs
from muskox.store.protocol.limits import LimitVerbs
from muskox.store.protocol.records import (
    Added,
    Check,
    Finding,
    Found,
    LogLine,
    Note,
    Packed,
    QueueCounts,
    Recovered,
    Selection,
    Standing,
    Traits,
    Want,
    WorkerRecord,
)
from muskox.store.protocol.schedules import ScheduleVerbs

__all__ = ["Store"]


class Store(ScheduleVerbs, LimitVerbs, FlowVerbs, HistoryVerbs, Protocol):
    """Keeps jobs and makes moves atomic. See the module for what holds of every verb."""

    traits: Traits

    # --- opening -----------------------------------------------------------------

    async def open(self) -> None:
        """Connect, check that the database can be used, and bring its tables up to date.

        May be called again after it succeeded, to no effect. Raises `StoreUnsupported`, `StoreCorrupt`,
        `StoreReadOnly` or `StoreUnavailable`, saying what to do.
        """
        ...

    async def close(self) -> None:
        """Finish what is on its way and let go of every connection, thread and file; may be called twice."""
        ...

    async def migrate(self) -> list[str]:
        """Apply the migrations that are missing, in one step each; returns their names."""
        ...

    # --- the life of jobs --------------------------------------------------------

    async def add(self, jobs: Sequence[NewJob], *, within: Any = None) -> list[Added]:
        """Store all the jobs or none, in the order given; waiting, or delayed where `delay` > 0.

        One with a key is blocked where as many of its key stand in line, or run, as may.
        A known (queue, id), also a twin earlier in the same call, stores nothing and answers with the job that is
        there. `within` is an asynchronous connection or session of the caller's, in whose transaction it is done;
        see `add_within` for the rest. Events: waiting, blocked, delayed.
        """
        ...

    def add_within(self, jobs: Sequence[NewJob], connection: Any) -> list[Added]:
        """`add` on the caller's own connection and in its transaction, in the caller's thread.

        Takes a driver's connection or a SQLAlchemy connection or session on the same database; rolled back, the
        jobs never existed. Raises `OptionError` for anything else. Only where `traits.within` is True. Needs no
        `open` before it, which might wait for the very transaction that the caller holds.
        """
        ...

    async def claim(
        self, wants: Sequence[Want], *, limit: int, worker: str, lease: float, ticket: str = ""
    ) -> list[Job]:
        """Move at most `limit` waiting jobs to active, attempt + 1, each with a lease of `lease` seconds.

        Only names that are wanted, from queues that are not paused. Within a queue higher priority first, then
        arrival; between queues in turn; and one claim in twenty goes to the job that has waited longest, whatever
        its priority, once it has waited ten seconds. A queue that is wanted twice is wanted for both.
        `ticket` is a text of the claim's own: said again by the same worker within the lease, it moves nothing and
        gives those of the claim's jobs whose leases still count, so that a claim without an answer may be repeated.
        Since when they had waited (`Job.arrival_us`) it does not tell again: the claim has written over it.
        Takes no more than the limits of a queue and of keys let start now; what they hold stays where it is. Of jobs
        with a key only so many stand in line as `core/limits.py` says, in turns with other keys, and each that is
        claimed lets the next of its key, by priority and then arrival, stand in line at the end: blocked → waiting.
        Events: active, and drained when no waiting job is left.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], *, within: Any = None) -> list[Lease]:
        """Write what became of runs; returns the leases that were lost and therefore changed nothing at all.

        A lease counts as long as nobody else has claimed, cancelled or recovered the job, also past its
        deadline. `within` is an asynchronous connection of the caller's, as for `add`. Events: completed, retrying,
        failed, released, and waiting or blocked for what is not delayed.
        """
        ...

    def settle_within(self, settlements: Sequence[Settlement], connection: Any) -> list[Lease]:
        """`settle` on the caller's own connection and in its transaction, in the caller's thread; see `add_within`.

        Until that ends, nobody else can write these jobs, nor renew their leases.
        """
        ...

    async def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Let the leases run for `lease` seconds from now; returns those that were lost."""
        ...

    async def annotate(self, notes: Sequence[Note]) -> list[Lease]:
        """Write progress, data, steps and log lines told by runs; returns the leases that were lost and wrote nothing.

        Keeps the first 1000 lines of a job and says in one last line that more were dropped.
        Steps are kept through all further attempts, as `Job.steps_text`; a claim need not give them. Events:
        progress, updated.
        """
        ...

    async def promote(self, selection: Selection | None = None, *, limit: int = 1000) -> int:
        """Move due jobs, or the selected delayed ones whatever their due, to waiting; returns how many.

        Due ones arrive at the moment they were due, selected ones now. Looks at keys whose moment has come too, which
        are not counted; and without a selection fails jobs that had to be begun by now (`expires_in`) and that nobody
        has begun with, at most `limit`, not counted either. Events: waiting, blocked, failed.
        """
        ...

    async def recover(self, *, limit: int = 1000) -> list[Recovered]:
        """Take back active jobs whose lease ran out: stalls + 1, attempt - 1, and the lease is worth nothing.

        The first stall goes back to waiting, later ones to delayed with a growing delay; beyond the job's
        `max_stalls` it fails with kind stalled. Evaluated by the store's clock in the same step. Events: stalled,
        waiting, blocked, delayed or failed.
        """
        ...

    async def clear(self, rules: Mapping[str, Retention], *, limit: int = 1000) -> int:
        """Delete settled jobs past their time or beyond the count kept for their queue, oldest first, and old
        events; returns how many jobs.

        Queues without a rule follow `Retention()`. Never touches a job that has not ended. Deletes flows that ended
        `FLOW_KEPT` seconds ago and have no job left. No event.
        """
        ...

    # --- by hand -----------------------------------------------------------------

    async def retry(self, selection: Selection) -> int:
        """Move selected failed or cancelled jobs to waiting and grant them one more attempt; returns how many.

        Stalls start from 0 again. Events: waiting, blocked.
        """
        ...

    async def cancel(self, selection: Selection) -> int:
        """Move selected jobs that have not ended to cancelled; returns how many.

        The lease of an active one is lost by that: its run learns it at its next beat. Events: cancelled.
        """
        ...

    async def remove(self, selection: Selection) -> int:
        """Delete selected jobs with their logs, in whatever state; returns how many.

        By state or name, active jobs are left alone unless ACTIVE is among the states. Events: removed.
        """
        ...

    async def update(self, queue: str, id: str, data: str) -> Job | None:
        """Replace the data of a job that has not been completed or cancelled; returns it as it is now.

        None when there is no such job; the job unchanged when its state forbids it. Events: updated.
        """
        ...

    async def pause(self, queue: str, paused: bool) -> bool:
        """Stop or allow claims from a queue; returns whether that changed anything. Events: paused, resumed."""
        ...

    # --- moving house ------------------------------------------------------------

    async def pack(self, queue: str, state: JobState, *, limit: int = 100) -> list[Packed]:
        """Read the first jobs of a queue in a state, with all that is kept of them; changes nothing.

        Waiting ones in the order in which they will be claimed, across all names; delayed ones by due; ended ones
        oldest first; blocked ones that stand behind others of their key, key by key in their order. None for active
        ones, and blocked ones that wait for parents.
        """
        ...

    async def adopt(self, jobs: Sequence[Packed]) -> list[Added]:
        """Store jobs of another store as they are there, all or none: state, counters, moments, result, log.

        A known (queue, id), also a twin earlier in the same call, stores nothing and answers with the job that is
        there. Waiting ones of a queue that are given in the order of their claims keep it, in this call and over
        several. Those with a key that do not wait for a due moment join the line of their key, and are waiting or
        blocked by that. Events: waiting, blocked, delayed; ended ones are news to nobody.
        """
        ...

    # --- looking -----------------------------------------------------------------

    async def get(self, queue: str, ids: Sequence[str]) -> list[Job | None]:
        """Give the jobs in the order of `ids`, None for those that are not there."""
        ...

    async def find(self, selection: Selection, *, after: str | None = None) -> Found:
        """Give a page of jobs, state by state in the order of `selection.states` (all states when empty).

        Waiting ones in the order in which they will be claimed, within a name; delayed by due; active by start;
        blocked in an order that stays the same, about as they came; settled latest first. `after` is the cursor of the
        page before. Costs the page, not the table.
        """
        ...

    async def standing(self, queue: str, id: str, *, names: Collection[str] | None, most: int) -> Standing | None:
        """Tell where a job stands, with those before it whose names are in `names` (None: any), `most` of each kind.

        None when it is not there. Costs at most what it counts, not what waits.
        """
        ...

    async def logs(self, queue: str, id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """Give the log lines of a job with numbers above `after`, in order."""
        ...

    async def counts(self, queues: Sequence[str] = ()) -> list[QueueCounts]:
        """Give the figures of the queues, or of all that ever had a job; kept up, never counted.

        A queue that never had a job has zeros.
        """
        ...

    async def workers(self) -> list[WorkerRecord]:
        """Give the live workers: those that beat within the last 30 seconds and did not say good-bye."""
        ...

    async def examine(self) -> list[Check]:
        """What can be said about the server or file and its settings, sound or not. Changes nothing, scans nothing."""
        ...

    async def audit(self) -> list[Finding]:
        """Compare figures, indexes and states with a full scan; returns what does not fit. Slow on purpose."""
        ...

    # --- hints, events, workers --------------------------------------------------

    async def wait(self, queues: Sequence[str], *, seconds: float) -> None:
        """Return when a job of the queues may have begun to wait, at the latest after `seconds`.

        A hint: may return early or in vain. Cancelling it does no harm.
        """
        ...

    async def events(
        self, *, after: int, queue: str | None = None, limit: int = 1000, seconds: float = 0.0
    ) -> list[Event]:
        """Give events with offsets above `after`, in order; waits up to `seconds` when there are none.

        Begins with `Trimmed` when events after `after` have been cleared. `after` -1 gives at once a single
        `Trimmed` whose offset is the latest there is, to start following from now; so does an `after` beyond it, as
        a reader has of whom the store has lost what it told.
        """
        ...

    async def publish(self, events: Sequence[Event]) -> None:
        """Append facts that are not moves: error, held. Their offset and moment are made by the store."""
        ...

    async def beat(self, worker: WorkerRecord, *, gone: bool = False) -> None:
        """Record that a worker lives, or that it is gone."""
        ...
