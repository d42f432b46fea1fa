"""Says why a job does not run, and when it will, from the facts of its store.

Each reason is a kind for programs and a sentence for people. It only looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from muskox.core.errors import JobNotFound, OptionError
from muskox.core.failure import Failure, FailureKind
from muskox.core.flows import Parent
from muskox.core.job import Job, JobState, moment
from muskox.core.limits import Rate
from muskox.store.protocol import Standing, Store, Want, WorkerRecord

__all__ = ["Explanation", "Reason", "ReasonKind", "explain", "explain_anywhere", "missing"]

MOST_AHEAD = 10_000
"""So many jobs before another are counted."""

MOST_PARENTS = 10
"""So many parents of a job are looked at."""


class ReasonKind(StrEnum):
    """What holds a job, or has become of it. Later releases may add kinds."""

    PAUSED = "paused"
    HELD = "held"
    RATE = "rate"
    CONCURRENCY = "concurrency"
    NO_WORKER = "no-worker"
    BEHIND = "behind"
    BUSY = "busy"
    NEXT = "next"
    DELAYED = "delayed"
    RETRYING = "retrying"
    EXPIRED = "expired"
    EXPIRES = "expires"
    BLOCKED = "blocked"
    PARENTS = "parents"
    RUNNING = "running"
    STALLED = "stalled"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reason. `at` is when it ends (a delay, a lease) or happened, `jobs` how many are ahead, `worker` whose it is.

    `more` where there are more jobs ahead than are counted. `held_by` are jobs that have the slots of its `key`, ten at
    most.
    """

    kind: ReasonKind
    text: str
    at: datetime | None = None
    jobs: int = 0
    more: bool = False
    worker: str | None = None
    failure: Failure | None = None
    key: str | None = None
    held_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


class Explanation(msgspec.Struct, frozen=True):
    """Why a job is where it is: all reasons there are at the moment `at` of the store's clock, one at least."""

    job: Job
    at: datetime
    reasons: list[Reason]

    @property
    def kinds(self) -> list[ReasonKind]:
        """The kinds of the reasons, in their order."""
        return [reason.kind for reason in self.reasons]

    def __str__(self) -> str:
        job = self.job
        title = f"job {job.id} named {job.name} in queue {job.queue} is {job.state}"
        return "\n".join([title, *(f"- {reason.text}" for reason in self.reasons)])


async def explain(store: Store, queue: str, id: str) -> Explanation:
    """Explain a job of a queue; raises `JobNotFound`."""
    [job] = await store.get(queue, [id])
    standing = None
    live: list[WorkerRecord] = []
    if job is not None:
        live = await store.workers()
        able = _able(live, job)
        standing = await store.standing(queue, id, names=_names(able, queue), most=MOST_AHEAD + 1)
    if standing is None:
        raise missing(queue, id)
    return Explanation(standing.job, moment(standing.now_us), [*_reasons(standing, live), *_expires(standing)])


async def explain_anywhere(store: Store, id: str) -> Explanation:
    """Explain a job whose queue is not known; raises `OptionError` where several queues have such an id."""
    queues = [counts.queue for counts in await store.counts()]
    found = [queue for queue in queues if (await store.get(queue, [id]))[0] is not None]
    if len(found) > 1:
        raise OptionError(f"the queues {' and '.join(found)} each have a job {id!r}; ask the queue that is meant")
    if not found:
        raise JobNotFound(f"no queue has a job {id!r}; it was never added, or cleared after its time")
    return await explain(store, found[0], id)


def missing(queue: str, id: str) -> JobNotFound:
    """The error for a job that is not there."""
    return JobNotFound(f"queue {queue!r} has no job {id!r}; it was never added, or cleared after its time")


# --- workers ---------------------------------------------------------------------------


def _able(live: Sequence[WorkerRecord], job: Job) -> list[WorkerRecord]:
    """The live workers that can run a job and still claim."""
    return [worker for worker in live if not worker.stopping and any(_fits(want, job) for want in worker.wants)]


def _fits(want: Want, job: Job) -> bool:
    return want.queue == job.queue and (want.names is None or job.name in want.names)


def _names(able: Sequence[WorkerRecord], queue: str) -> set[str] | None:
    """The names with which a job competes for these workers; None for any."""
    names: set[str] = set()
    for want in (want for worker in able for want in worker.wants if want.queue == queue):
        if want.names is None:
            return None
        names |= want.names
    return names or None


def _no_worker(live: Sequence[WorkerRecord], job: Job) -> list[Reason]:
    if _able(live, job):
        return []
    its = [worker for worker in live if any(want.queue == job.queue for want in worker.wants)]
    if not live:
        said = "no worker is alive"
    elif not its:
        said = f"no live worker takes jobs from queue {job.queue}"
    elif any(_fits(want, job) for worker in its for want in worker.wants):
        said = "every live worker that could run it is stopping"
    else:
        said = f"no live worker has this name: none that takes jobs from queue {job.queue} has a processor {job.name}"
    return [Reason(ReasonKind.NO_WORKER, said)]


# --- reasons ---------------------------------------------------------------------------


def _reasons(standing: Standing, live: Sequence[WorkerRecord]) -> list[Reason]:
    job = standing.job
    held = _expired(standing) + _paused(standing) + _no_worker(live, job)
    match job.state:
        case JobState.WAITING:
            found = held + _limited(standing) + _ahead(standing) + _busy(_able(live, job))
            return found or [Reason(ReasonKind.NEXT, "nothing holds it: it is the next to be claimed")]
        case JobState.DELAYED:
            return [_delayed(standing), *held]
        case JobState.BLOCKED if standing.parents:
            return [_parents(standing.parents), *held]
        case JobState.BLOCKED:
            return [*_blocked(standing), *held]
        case JobState.ACTIVE:
            return _active(standing, live)
        case _:
            return [_ended(job)]


def _parents(parents: Sequence[Parent]) -> Reason:
    named = [f"{one.id} in queue {one.queue} ({one.state})" for one in parents[:3]]
    if len(parents) > len(named):
        named.append(f"{len(parents) - len(named)}{'' if len(parents) < MOST_PARENTS else ' or more'} others")
    said = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return Reason(ReasonKind.PARENTS, f"it waits for {'job' if len(named) == 1 else 'jobs'} {said}", jobs=len(parents))


def _expired(standing: Standing) -> list[Reason]:
    over = _over(standing.job)
    if over is None or over >= standing.now_us:
        return []
    said = (
        f"it should have begun by {_said(over)}: it never will, and fails when a worker comes to it or looks after it"
    )
    return [Reason(ReasonKind.EXPIRED, said, at=moment(over))]


def _expires(standing: Standing) -> list[Reason]:
    over = _over(standing.job)
    if over is None or over < standing.now_us:
        return []
    return [Reason(ReasonKind.EXPIRES, f"it has to begin by {_said(over)}, and fails if it has not", at=moment(over))]


def _over(job: Job) -> int | None:
    """Until when a job has to begin that has not begun yet."""
    if job.options.expires_in is None or job.attempt or job.stalls or job.settled:
        return None
    return job.added_us + int(job.options.expires_in * 1_000_000)


def _paused(standing: Standing) -> list[Reason]:
    if not standing.paused:
        return []
    return [Reason(ReasonKind.PAUSED, f"queue {standing.job.queue} is paused: nothing is claimed until it is resumed")]


def _limited(standing: Standing) -> list[Reason]:
    """What limits of its queue and its key say about a job now."""
    queue, key, found = standing.limits, standing.key, []
    if queue is not None:
        name, limits = f"queue {queue.queue}", queue.limits
        found += _held_until(name, queue.held_until_us)
        if limits.concurrency is not None and queue.active >= limits.concurrency:
            said = f"{queue.active} jobs of {name} run, and {limits.concurrency} may at once"
            found.append(Reason(ReasonKind.CONCURRENCY, said))
        found += _no_token(name, limits.rate, queue.next_us)
    if key is not None:
        name = f"key {key.key}"
        found += _held_until(name, key.held_until_us)
        if key.concurrency is not None and key.active + (key.waiting if _is_behind(standing) else 0) >= key.concurrency:
            of = f"{name} is at {key.active} of {key.concurrency}"
            line = f", and {key.waiting} of it stand in line before" if _is_behind(standing) and key.waiting else ""
            by = f": {', '.join(standing.holders)} run{'s' if key.active == 1 else ''}" if standing.holders else ""
            found.append(Reason(ReasonKind.CONCURRENCY, of + by + line, key=key.key, held_by=standing.holders))
        found += _no_token(name, key.rate, key.next_us)
    return found


def _is_behind(standing: Standing) -> bool:
    """Whether a job stands behind others of its key."""
    return standing.job.state is JobState.BLOCKED


def _held_until(what: str, until: int | None) -> list[Reason]:
    if until is None:
        return []
    return [Reason(ReasonKind.HELD, f"{what} is held: nothing of it starts before {_said(until)}", at=moment(until))]


def _no_token(what: str, rate: Rate | None, next_us: int | None) -> list[Reason]:
    if rate is None or next_us is None:
        return []
    said = f"{what} has a rate of {rate.limit} per {rate.per:g} s: the next may start at {_said(next_us)}"
    return [Reason(ReasonKind.RATE, said, at=moment(next_us))]


def _blocked(standing: Standing) -> list[Reason]:
    if standing.key is None:
        return [Reason(ReasonKind.BLOCKED, "it waits for other jobs")]
    key = standing.key
    before = standing.higher + standing.earlier
    said = f"it stands behind others of key {key.key}: {key.waiting} in line and {_number(before)} blocked before it"
    ahead = Reason(ReasonKind.BEHIND, said, jobs=key.waiting + min(before, MOST_AHEAD), more=before > MOST_AHEAD)
    return [*_limited(standing), *([ahead] if key.waiting + before else [])] or [
        Reason(ReasonKind.BLOCKED, f"it is the next of key {key.key} to come to the line")
    ]


def _ahead(standing: Standing) -> list[Reason]:
    ahead = standing.higher + standing.earlier
    if not ahead:
        return []
    most, more = min(ahead, MOST_AHEAD), ahead > MOST_AHEAD
    parts = []
    if standing.higher:
        parts.append(f"{_number(standing.higher)} of higher priority")
    if standing.earlier:
        parts.append(f"{_number(standing.earlier)} of the same priority that came before it")
    return [Reason(ReasonKind.BEHIND, f"it is behind {' and '.join(parts)}", jobs=most, more=more)]


def _number(jobs: int) -> str:
    if jobs > MOST_AHEAD:
        return f"more than {MOST_AHEAD} jobs"
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _busy(able: Sequence[WorkerRecord]) -> list[Reason]:
    slots = sum(worker.slots for worker in able)
    if not able or sum(worker.running for worker in able) < slots:
        return []
    whose = "the one live worker that can run it" if len(able) == 1 else f"the {len(able)} live workers that can run it"
    return [Reason(ReasonKind.BUSY, f"all {slots} slots of {whose} are taken")]


def _delayed(standing: Standing) -> Reason:
    job = standing.job
    due = job.due_us or standing.now_us
    when = f"{'it was' if due <= standing.now_us else 'it is'} due at {_said(due)}"
    if job.failure is None:
        return Reason(ReasonKind.DELAYED, f"it is delayed: {when}", at=moment(due))
    why = _short(job.failure)
    said = (
        f"attempt {job.attempt} failed with {why}" if job.failure.kind != FailureKind.STALLED else f"it stalled: {why}"
    )
    return Reason(ReasonKind.RETRYING, f"{said}; {when} to be tried again", at=moment(due), failure=job.failure)


def _active(standing: Standing, live: Sequence[WorkerRecord]) -> list[Reason]:
    job = standing.job
    worker = next((worker for worker in live if worker.id == job.worker), None)
    where = f"worker {job.worker}" if worker is None else f"worker {worker.id} ({worker.host}, process {worker.pid})"
    of = "" if job.attempts is None else f" of {job.attempts}"
    until = standing.lease_until_us
    since = f"it is attempt {job.attempt}{of}, claimed by {where} at {_said(job.started_us or 0)}"
    if until is not None and until >= standing.now_us:
        said = f"{since}; its lease runs out at {_said(until)} unless the worker renews it"
        return [Reason(ReasonKind.RUNNING, said, at=moment(until), worker=job.worker)]
    over = standing.now_us if until is None else until
    said = f"{since}; its lease ran out at {_said(over)}: the next live worker that looks takes it back"
    nobody = [] if live else [Reason(ReasonKind.NO_WORKER, "no worker is alive to take it back")]
    return [Reason(ReasonKind.STALLED, said, at=moment(over), worker=job.worker), *nobody]


def _ended(job: Job) -> Reason:
    at = job.ended_at
    when = _said(job.ended_us or 0)
    match job.state:
        case JobState.FAILED:
            kind = job.failure.kind if job.failure is not None else "error"
            said = f"it failed for good at {when} ({kind}, attempt {job.attempt}): {_short(job.failure)}"
            return Reason(ReasonKind.FAILED, said, at=at, failure=job.failure)
        case JobState.CANCELLED:
            return Reason(ReasonKind.CANCELLED, f"it was cancelled at {when}", at=at)
        case _:
            return Reason(ReasonKind.COMPLETED, f"it was completed at {when}, attempt {job.attempt}", at=at)


def _short(failure: Failure | None) -> str:
    """What failed, in one line of bounded length."""
    text = "" if failure is None else " ".join(str(failure).split())
    return text if len(text) <= 200 else f"{text[:200]}…"


def _said(at_us: int) -> str:
    return moment(at_us).isoformat(sep=" ", timespec="milliseconds")
