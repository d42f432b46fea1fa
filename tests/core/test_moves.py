"""Drives jobs through random moves and outcomes: no sequence reaches a state that the table forbids."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from muskox.core.backoff import Fixed
from muskox.core.errors import WrongState
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import SETTLED, Job, JobState, Lease, Options
from muskox.core.life import (
    LEGAL,
    MOVES,
    Complete,
    Died,
    Fail,
    Hold,
    Interrupted,
    Limited,
    Raised,
    Release,
    Retry,
    Returned,
    Rules,
    Stall,
    TimedOut,
    check_move,
    decide,
)

_FAILURE = Failure(FailureKind.ERROR, "ValueError", "no")
_FINAL = Failure(FailureKind.ERROR, "FinalError", "never", final=True)

OUTCOMES = st.sampled_from([
    Returned("1"), Returned(None, _FAILURE), Raised(_FAILURE), Raised(_FINAL), TimedOut(_FAILURE), Interrupted(),
    Died(_FAILURE), Limited(2.0, Hold.JOB), Limited(2.0, Hold.KEY), Limited(0.0, Hold.QUEUE),
])  # fmt: skip


def written(job: Job, settlement: object) -> Job:
    """What a store would make of a settlement: state and counters only."""
    match settlement:
        case Complete():
            state, attempt, stalls, releases = JobState.COMPLETED, job.attempt, job.stalls, job.releases
        case Fail(failure=failure) if failure.kind is FailureKind.STALLED:
            state, attempt, stalls, releases = JobState.FAILED, job.attempt - 1, job.stalls + 1, job.releases
        case Fail():
            state, attempt, stalls, releases = JobState.FAILED, job.attempt, job.stalls, job.releases
        case Retry(delay=delay):
            state = JobState.DELAYED if delay > 0 else JobState.WAITING
            attempt, stalls, releases = job.attempt, job.stalls, job.releases
        case Stall(delay=delay):
            state = JobState.DELAYED if delay > 0 else JobState.WAITING
            attempt, stalls, releases = job.attempt - 1, job.stalls + 1, job.releases
        case Release(delay=delay, hold=hold):
            state = JobState.DELAYED if delay > 0 and hold is Hold.JOB else JobState.WAITING
            attempt, stalls, releases = job.attempt - 1, job.stalls, job.releases + 1
        case _:
            raise AssertionError(settlement)
    return msgspec.structs.replace(job, state=state, attempt=attempt, stalls=stalls, releases=releases, lease=None)


class Lives(RuleBasedStateMachine):
    """One job, every move from the table, every outcome through `decide`."""

    def __init__(self) -> None:
        super().__init__()
        self.job = Job("a", "files", "resize", JobState.WAITING, 0, "null", options=Options())
        self.rules = Rules()
        self.token = 0
        self.starts = 0
        self.releases = 0
        self.granted = 0
        self.previous = self.job

    @precondition(lambda self: self.token == 0)
    @rule(attempts=st.integers(1, 4), max_stalls=st.integers(0, 3), seconds=st.sampled_from([0.0, 2.0]))
    def be_added(self, attempts, max_stalls, seconds):
        self.rules = Rules(attempts=attempts, backoff=Fixed(seconds), max_stalls=max_stalls)

    @rule()
    def claim(self):
        if self.allowed("claim"):
            self.token += 1
            self.starts += 1
            lease = Lease("files", "a", self.token)
            self.move(msgspec.structs.replace(
                self.job, state=JobState.ACTIVE, attempt=self.job.attempt + 1, lease=lease
            ))  # fmt: skip

    @precondition(lambda self: self.job.state is JobState.ACTIVE)
    @rule(outcome=OUTCOMES, chance=st.floats(0, 1, exclude_max=True))
    def end(self, outcome, chance):
        settlement = decide(self.job, self.rules, outcome, chance=chance)
        assert settlement.lease == self.job.lease
        self.releases += isinstance(settlement, Release)
        after = written(self.job, settlement)
        assert after.state in MOVES["settle"][JobState.ACTIVE]
        self.move(after)

    @rule(verb=st.sampled_from(["open", "promote", "retry", "cancel"]), chosen=st.data())
    def manage(self, verb, chosen):
        if self.allowed(verb):
            target = chosen.draw(st.sampled_from(sorted(MOVES[verb][self.job.state])))
            if verb == "retry":
                self.granted += 1
                self.rules = msgspec.structs.replace(
                    self.rules, attempts=max(self.rules.attempts, self.job.attempt + 1)
                )
                self.granted += self.rules.max_stalls
            stalls = 0 if verb == "retry" else self.job.stalls
            self.move(msgspec.structs.replace(self.job, state=target, stalls=stalls, lease=None))

    def allowed(self, verb: str) -> bool:
        try:
            check_move(verb, self.job)
        except WrongState:
            assert self.job.state not in MOVES[verb]
            return False
        return True

    def move(self, after: Job) -> None:
        self.previous, self.job = self.job, after
        assert (self.previous.state, after.state) in LEGAL

    @invariant()
    def a_lease_and_active_go_together(self):
        assert (self.job.lease is not None) == (self.job.state is JobState.ACTIVE)

    @invariant()
    def counters_never_fall_below_zero(self):
        assert min(self.job.attempt, self.job.stalls, self.job.releases) >= 0

    @invariant()
    def attempts_stay_within_what_is_allowed(self):
        assert self.job.attempt <= self.rules.attempts
        assert self.job.stalls <= self.rules.max_stalls + 1

    @invariant()
    def completed_is_the_end(self):
        if self.previous.state is JobState.COMPLETED:
            assert self.job.state is JobState.COMPLETED

    @invariant()
    def starts_are_attempts_and_stalls_and_releases(self):
        if self.granted == 0 and self.job.state not in SETTLED:
            assert self.starts == self.job.attempt + self.job.stalls + self.job.releases


TestLives = Lives.TestCase
