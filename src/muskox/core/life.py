"""The life of a job: the legal moves, and what becomes of a job after a run.

Everything here is a plain calculation: the caller brings the outcome and the
dice and writes the answer down. Moments in time belong to the store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from muskox.core.backoff import LONGEST, Backoff, CustomBackoff, Exponential
from muskox.core.errors import WrongState
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import DEFAULT_MAX_STALLS, Job, JobState, Lease, Options, Retention

__all__ = [
    "LEGAL",
    "MOVES",
    "Complete",
    "Died",
    "Fail",
    "Hold",
    "Interrupted",
    "Limited",
    "Outcome",
    "Raised",
    "Release",
    "Retry",
    "Returned",
    "Rules",
    "Settlement",
    "Stall",
    "TimedOut",
    "check_move",
    "decide",
    "expired",
    "stall_delay",
    "unbegun",
]

_W, _D, _B, _A = JobState.WAITING, JobState.DELAYED, JobState.BLOCKED, JobState.ACTIVE
_C, _F, _X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED

MOVES: dict[str, dict[JobState, frozenset[JobState]]] = {
    "claim": {_W: frozenset({_A})},
    "settle": {_A: frozenset({_C, _F, _D, _W, _B})},
    "recover": {_A: frozenset({_W, _D, _F, _B})},
    "promote": {_D: frozenset({_W, _B})},
    "open": {_B: frozenset({_W}), _W: frozenset({_B})},
    "resolve": {_B: frozenset({_W, _D, _F, _X})},
    "retry": {_F: frozenset({_W, _B}), _X: frozenset({_W, _B})},
    "cancel": {state: frozenset({_X}) for state in (_W, _D, _B, _A)},
    "update": {state: frozenset({state}) for state in (_W, _D, _B, _A, _F)},
}
"""Per verb, from which state to which: the one table of what may happen to a stored job."""

LEGAL: frozenset[tuple[JobState, JobState]] = frozenset(
    (source, target) for moves in MOVES.values() for source, targets in moves.items() for target in targets
)


def check_move(verb: str, job: Job) -> None:
    """Raise `WrongState` unless `verb` may move a job from the state that `job` is in."""
    if job.state not in MOVES[verb]:
        allowed = ", ".join(sorted(MOVES[verb]))
        raise WrongState(f"job {job.id} is {job.state}; {verb} needs a job that is {allowed}")


class Rules(msgspec.Struct, frozen=True):
    """The options that count for a run, after job, processor and queue have each had their say."""

    attempts: int = 1
    backoff: Backoff | CustomBackoff = Exponential(1.0, jitter=0.2)
    timeout: float | None = None
    max_stalls: int = DEFAULT_MAX_STALLS
    keep_completed: float | None = None
    keep_failed: float | None = None
    expires_in: float | None = None

    @classmethod
    def of(cls, options: Options, retention: Retention, custom: CustomBackoff | None = None) -> Rules:
        """Settle what is left open in `options`: one attempt, growing backoff, the queue's retention."""
        return cls(
            attempts=options.attempts or 1,
            backoff=options.backoff or custom or Exponential(1.0, jitter=0.2),
            timeout=options.timeout,
            max_stalls=DEFAULT_MAX_STALLS if options.max_stalls is None else options.max_stalls,
            keep_completed=_keep(options.keep_for, retention.completed_for),
            keep_failed=_keep(options.keep_for, retention.failed_for),
            expires_in=options.expires_in,
        )


class Returned(msgspec.Struct, frozen=True, gc=False):
    """The processor returned; `result` is JSON text, or None for None.

    `unkept` says why the value could not become JSON: the work is done all the same.
    """

    result: str | None = None
    unkept: Failure | None = None


class Raised(msgspec.Struct, frozen=True):
    """The processor raised."""

    failure: Failure
    error: BaseException | None = None


class TimedOut(msgspec.Struct, frozen=True):
    """The run was stopped at its timeout."""

    failure: Failure


class Interrupted(msgspec.Struct, frozen=True):
    """The worker stops and the run was ended, or never begun, through no fault of its own."""


class Hold(StrEnum):
    """What is held when a job is given back because a limit elsewhere was met."""

    JOB = "job"
    KEY = "key"
    QUEUE = "queue"


class Limited(msgspec.Struct, frozen=True):
    """The processor raised `RateLimited`: a limit elsewhere was met, and the run never counted."""

    delay: float
    hold: Hold


class Died(msgspec.Struct, frozen=True):
    """The child process that ran an isolated processor is gone; `failure` says how."""

    failure: Failure


Outcome = Returned | Raised | TimedOut | Interrupted | Limited | Died


class Complete(msgspec.Struct, frozen=True, gc=False):
    """active → completed; `keep` is for how many seconds: 0 removes the job at once, None leaves it to the queue."""

    lease: Lease
    result: str | None = None
    unkept: Failure | None = None
    keep: float | None = None


class Retry(msgspec.Struct, frozen=True, gc=False):
    """active → delayed (waiting when `delay` is 0): there will be another attempt."""

    lease: Lease
    delay: float
    failure: Failure


class Stall(msgspec.Struct, frozen=True, gc=False):
    """active → waiting (delayed when `delay` > 0): stalls + 1, the attempt is not counted."""

    lease: Lease
    delay: float
    failure: Failure


class Fail(msgspec.Struct, frozen=True, gc=False):
    """active → failed: nothing more is tried.

    A failure of kind stalled counts as a stall and not as an attempt.
    """

    lease: Lease
    failure: Failure
    keep: float | None = None


class Release(msgspec.Struct, frozen=True, gc=False):
    """active → waiting, or delayed when `delay` > 0: given back, the attempt is not counted.

    With `hold` KEY or QUEUE the job waits and nothing of its key, or of its queue, starts for `delay` seconds; KEY
    says the same as JOB of a job that has no key.
    """

    lease: Lease
    delay: float = 0.0
    hold: Hold = Hold.JOB


Settlement = Complete | Retry | Fail | Release | Stall


def decide(job: Job, rules: Rules, outcome: Outcome, *, chance: float) -> Settlement:
    """Turn the outcome of a run into what shall be written about `job`, which holds a lease.

    `chance` in [0, 1) is the dice for jitter; the same dice give the same answer.
    A custom backoff is called here, and what it raises is the caller's to catch.
    """
    lease = job.lease
    assert lease is not None, "only a claimed job has an outcome"
    if isinstance(outcome, Returned):
        # Not a case below: matching it costs as much as all the rest that is decided for a job that ends well.
        return Complete(lease, outcome.result, outcome.unkept, rules.keep_completed)
    match outcome:
        case Interrupted():
            return Release(lease)
        case Limited(delay, hold):
            return Release(lease, delay, hold)
        case Died(failure) if job.stalls >= rules.max_stalls:
            return Fail(lease, msgspec.structs.replace(failure, kind=FailureKind.STALLED), rules.keep_failed)
        case Died(failure):
            return Stall(lease, stall_delay(job.stalls + 1), failure)
        case Raised(failure) | TimedOut(failure) if is_last(job, rules, failure):
            return Fail(lease, failure, rules.keep_failed)
        case Raised(failure, error):
            return Retry(lease, _delay(rules, job.attempt, error, chance), failure)
        case TimedOut(failure):
            return Retry(lease, _delay(rules, job.attempt, None, chance), failure)
        case _:
            assert_never(outcome)


def is_last(job: Job, rules: Rules, failure: Failure) -> bool:
    """Whether there is no other attempt after this one, which ended in an error or a timeout."""
    return failure.final or job.attempt >= rules.attempts


def expired(job: Job, rules: Rules) -> Raised | None:
    """What becomes of a job that was just claimed when it is too late to begin with it; None when it is not.

    Only for its first attempt, by the moments that the store gave it. One that was given back has not begun.
    """
    if rules.expires_in is None or job.attempt > 1 or job.stalls > 0 or job.started_us is None:
        return None
    waited = (job.started_us - job.added_us) / 1_000_000
    if waited <= rules.expires_in:
        return None
    said = f"not begun within {rules.expires_in:g} seconds after it was added, but {waited:.1f} seconds after"
    return Raised(Failure(FailureKind.EXPIRED, "Expired", said, final=True))


def unbegun(job: Job, now_us: int) -> Failure | None:
    """Why a job that has not begun fails at this moment because it is too late for it; None when it does not.

    For stores, which look at such jobs when their time is over, whether or not a worker comes.
    """
    over = None if job.options.expires_in is None else job.added_us + int(job.options.expires_in * 1_000_000)
    if over is None or job.attempt > 0 or job.stalls > 0 or job.settled or now_us <= over:
        return None
    said = f"not begun within {job.options.expires_in:g} seconds after it was added"
    return Failure(FailureKind.EXPIRED, "Expired", said, final=True)


def stall_delay(stalls: int) -> float:
    """Seconds until a job comes back after its `stalls`th stall: none after the first, then 2, 4, 8 … up to 60.

    A job that takes its worker with it must not take all of them one after another.
    """
    return 0.0 if stalls <= 1 else min(60.0, 2.0 ** min(stalls - 1, 6))


def _keep(asked: float | None, retention: float) -> float | None:
    if asked is not None:
        return asked
    return 0.0 if retention == 0 else None


def _delay(rules: Rules, attempt: int, error: BaseException | None, chance: float) -> float:
    if callable(rules.backoff):
        return min(LONGEST, max(0.0, float(rules.backoff(attempt, error))))
    return rules.backoff.delay(attempt, chance)
