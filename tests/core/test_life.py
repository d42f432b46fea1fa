"""What `decide` says for each outcome, and which moves the table allows. No clock, no store."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.backoff import LONGEST, Exponential, Fixed
from muskox.core.errors import FinalError, WrongState
from muskox.core.failure import Failure, FailureKind, describe
from muskox.core.job import SETTLED, Job, JobState, Lease, Options, Retention
from muskox.core.life import (
    LEGAL,
    MOVES,
    Complete,
    Died,
    Fail,
    Interrupted,
    Raised,
    Release,
    Retry,
    Returned,
    Rules,
    Stall,
    TimedOut,
    check_move,
    decide,
    stall_delay,
)

LEASE = Lease("files", "a", 7)
BROKEN = Failure(FailureKind.ERROR, "ValueError", "no such file")
LATE = Failure(FailureKind.TIMEOUT, message="ended after 5 s")
GONE = Failure(FailureKind.ERROR, message="child was killed by signal 9")
USELESS = Failure(FailureKind.ERROR, "FinalError", "unknown user", final=True)


def job(attempt: int = 1, stalls: int = 0, state: JobState = JobState.ACTIVE) -> Job:
    return Job("a", "files", "resize", state, 0, "{}", attempt=attempt, stalls=stalls, lease=LEASE)


def rules(attempts: int = 1, max_stalls: int = 1) -> Rules:
    return Rules(attempts=attempts, backoff=Fixed(4), max_stalls=max_stalls, keep_completed=10, keep_failed=20)


TABLE = [
    ("a result is kept", job(), rules(), Returned('{"ok":true}'), Complete(LEASE, '{"ok":true}', None, 10)),
    ("no result is fine", job(), rules(), Returned(), Complete(LEASE, None, None, 10)),
    ("an unkept result", job(), rules(3), Returned(None, BROKEN), Complete(LEASE, None, BROKEN, 10)),
    ("a result past the attempts", job(9), rules(1), Returned("1"), Complete(LEASE, "1", None, 10)),
    ("the only attempt", job(1), rules(1), Raised(BROKEN), Fail(LEASE, BROKEN, 20)),
    ("the first of two", job(1), rules(2), Raised(BROKEN), Retry(LEASE, 4, BROKEN)),
    ("the last of two", job(2), rules(2), Raised(BROKEN), Fail(LEASE, BROKEN, 20)),
    ("attempts lowered since", job(5), rules(2), Raised(BROKEN), Fail(LEASE, BROKEN, 20)),
    ("a final error of three", job(1), rules(3), Raised(USELESS), Fail(LEASE, USELESS, 20)),
    ("a timeout of two", job(1), rules(2), TimedOut(LATE), Retry(LEASE, 4, LATE)),
    ("the last timeout", job(2), rules(2), TimedOut(LATE), Fail(LEASE, LATE, 20)),
    ("a stop of the worker", job(1), rules(1), Interrupted(), Release(LEASE)),
    ("a stop at the last attempt", job(3), rules(3), Interrupted(), Release(LEASE)),
    ("the first death", job(1, 0), rules(1, 1), Died(GONE), Stall(LEASE, 0.0, GONE)),
    ("the second death of three", job(1, 1), rules(1, 3), Died(GONE), Stall(LEASE, 2.0, GONE)),
    (
        "one death too many",
        job(1, 1),
        rules(1, 1),
        Died(GONE),
        Fail(LEASE, msgspec.structs.replace(GONE, kind=FailureKind.STALLED), 20),
    ),
    (
        "no death allowed",
        job(1, 0),
        rules(5, 0),
        Died(GONE),
        Fail(LEASE, msgspec.structs.replace(GONE, kind=FailureKind.STALLED), 20),
    ),
]


@pytest.mark.parametrize(
    ("running", "allowed", "outcome", "expected"), [case[1:] for case in TABLE], ids=[c[0] for c in TABLE]
)
def test_decide_turns_an_outcome_into_a_settlement(running, allowed, outcome, expected):
    assert decide(running, allowed, outcome, chance=0.5) == expected


def test_the_same_dice_give_the_same_delay():
    jittery = Rules(attempts=9, backoff=Exponential(2, jitter=0.5))

    first, second = (decide(job(3), jittery, Raised(BROKEN), chance=0.25) for _ in range(2))

    assert first == second == Retry(LEASE, 8 * 0.75, BROKEN)


def test_a_custom_backoff_gets_the_attempt_and_the_error():
    seen = []
    error = ValueError("no")

    def backoff(attempt, error):
        seen.append((attempt, error))
        return 3

    custom = Rules(attempts=9, backoff=backoff)

    answers = [
        decide(job(2), custom, Raised(BROKEN, error), chance=0.0),
        decide(job(3), custom, TimedOut(LATE), chance=0.0),
    ]

    assert answers == [Retry(LEASE, 3.0, BROKEN), Retry(LEASE, 3.0, LATE)]
    assert seen == [(2, error), (3, None)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [(-5, 0.0), (0, 0.0), (1e300, LONGEST), (float("inf"), LONGEST), (float("-inf"), 0.0), (float("nan"), 0.0)],
)
def test_fault_d10_a_custom_backoff_is_kept_within_bounds(told, expected):
    wild = Rules(attempts=9, backoff=lambda _attempt, _error: told)

    assert decide(job(), wild, Raised(BROKEN), chance=0.0) == Retry(LEASE, expected, BROKEN)


def test_an_error_named_final_ends_a_job_at_once():
    failure = describe(FinalError("the account is closed"))

    assert decide(job(1), rules(5), Raised(failure), chance=0.0) == Fail(LEASE, failure, 20)


@pytest.mark.parametrize(
    ("stalls", "expected"), [(0, 0.0), (1, 0.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (8, 60.0), (10**6, 60.0)]
)
def test_a_stalled_job_waits_longer_each_time(stalls, expected):
    assert stall_delay(stalls) == expected


def test_rules_leave_the_time_of_keeping_to_the_queue():
    assert Rules.of(Options(), Retention(completed_for=1, failed_for=2)) == Rules()


def test_mission_a21_a_queue_that_keeps_nothing_removes_a_job_when_it_ends():
    assert Rules.of(Options(), Retention(completed_for=0)) == Rules(keep_completed=0)


def test_rules_prefer_the_options_of_the_job():
    options = Options(attempts=4, backoff=Fixed(1), timeout=9, max_stalls=0, keep_for=0)

    found = Rules.of(options, Retention(), custom=lambda _attempt, _error: 1.0)

    assert found == Rules(4, Fixed(1), 9, 0, 0, 0)


def test_rules_take_the_processors_own_backoff_when_the_job_has_none():
    def own(attempt, error):
        return 1.0

    assert Rules.of(Options(), Retention(), own).backoff is own


@pytest.mark.parametrize("verb", MOVES)
@pytest.mark.parametrize("state", JobState)
def test_a_move_is_refused_from_every_other_state(verb, state):
    if state in MOVES[verb]:
        check_move(verb, job(state=state))
        return

    with pytest.raises(WrongState, match=f"{state}; {verb} needs"):
        check_move(verb, job(state=state))


def test_nothing_leaves_completed():
    assert [move for move in LEGAL if move[0] is JobState.COMPLETED] == []


def test_only_a_claim_makes_a_job_active():
    assert {source for source, target in LEGAL if target is JobState.ACTIVE and source is not target} == {
        JobState.WAITING
    }


def test_settled_states_are_left_only_by_hand():
    by_hand = {verb for verb, moves in MOVES.items() for source in moves if source in SETTLED}

    assert by_hand == {"retry", "update"}
