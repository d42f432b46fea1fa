"""Attempts, stalls and releases: three counters, and how often a job may start in all."""

from __future__ import annotations

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import JobState, Retention
from muskox.core.life import Died, Interrupted, Raised, Rules, decide
from muskox.store.protocol import Selection
from tests.store.reading import BROKEN, kinds, one

GONE = Failure(FailureKind.ERROR, message="child is gone")


async def run(store, clock, claim, outcome):
    """One attempt as a worker makes it: claim, run, decide, settle. Gives the job, or None when none waits."""
    clock.advance(3600)
    await store.promote()
    claimed = await claim(lease=30)
    if not claimed:
        return None
    [job] = claimed
    rules = Rules.of(job.options, Retention())
    assert await store.settle([decide(job, rules, outcome, chance=0.5)]) == []
    return await one(store, job.id)


async def run_out(store, clock, claim, outcomes):
    starts = 0
    for outcome in outcomes:
        if await run(store, clock, claim, outcome) is None:
            break
        starts += 1
    return starts


async def test_mission_a11_a_job_fails_after_its_last_attempt(store, clock, add, claim):
    await add(id="a", attempts=3)

    assert await run_out(store, clock, claim, [Raised(BROKEN)] * 9) == 3

    job = await one(store, "a")
    assert (job.state, job.attempt, job.attempts, job.failure) == (JobState.FAILED, 3, 3, BROKEN)
    assert [kind for kind in await kinds(store, "a") if kind in {"retrying", "failed"}] == [
        "retrying",
        "retrying",
        "failed",
    ]


async def test_mission_a11_one_attempt_is_the_default(store, clock, add, claim):
    await add(id="a")

    assert await run_out(store, clock, claim, [Raised(BROKEN)] * 9) == 1


async def test_releases_use_up_no_attempt(store, clock, add, claim):
    await add(id="a", attempts=2)

    starts = await run_out(store, clock, claim, [Interrupted()] * 5 + [Raised(BROKEN)] * 5)

    job = await one(store, "a")
    assert (starts, job.attempt, job.releases, job.state) == (7, 2, 5, JobState.FAILED)


async def test_starts_never_pass_attempts_and_stalls_together(store, clock, add, claim):
    await add(id="a", attempts=2, max_stalls=2)

    starts = await run_out(store, clock, claim, [Died(GONE), Raised(BROKEN), Died(GONE), Died(GONE), Raised(BROKEN)])

    job = await one(store, "a")
    assert (starts, job.state, job.attempt, job.stalls) == (4, JobState.FAILED, 1, 3)
    assert job.failure.kind is FailureKind.STALLED


async def test_mission_a15_a_retry_by_hand_grants_one_more_attempt(store, clock, add, claim):
    await add(id="a", attempts=2)
    await run_out(store, clock, claim, [Raised(BROKEN)] * 9)

    assert await store.retry(Selection("files", ids=("a",))) == 1

    job = await one(store, "a")
    assert (job.state, job.attempt, job.attempts, job.stalls) == (JobState.WAITING, 2, 3, 0)
    [again] = await claim()
    assert (again.attempt, again.attempts) == (3, 3)


async def test_a_retry_by_hand_does_not_take_attempts_away(store, clock, add, claim):
    await add(id="a", attempts=5)
    await run(store, clock, claim, Raised(Failure(FailureKind.ERROR, "FinalError", "no", final=True)))

    await store.retry(Selection("files", ids=("a",)))

    assert (await one(store, "a")).attempts == 5


async def test_a_retry_by_hand_starts_the_stalls_again(store, clock, add, claim):
    await add(id="a", max_stalls=0)
    await run(store, clock, claim, Died(GONE))

    await store.retry(Selection("files", ids=("a",)))

    assert (await one(store, "a")).stalls == 0
