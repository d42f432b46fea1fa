"""Jobs that have to be begun in time: upkeep ends those that nobody comes for, and no others."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.dedup import Dedup
from muskox.core.events import Failed
from muskox.core.flows import FlowJob, FlowKind, NewFlow, Wait
from muskox.core.job import JobState, NewJob, Options
from muskox.core.life import Complete, Release, Retry
from muskox.core.limits import Limits
from muskox.store.protocol import Selection
from tests.store.reading import BROKEN, events, figures, one, state
from tests.store.schedules import firing, kept, put


@pytest.fixture
async def store(store):
    """A store that must be sound at the end."""
    yield store
    assert await store.audit() == []


@pytest.mark.parametrize("delay", [0, 30])
async def test_a_job_that_nobody_begins_with_in_time_fails_without_a_worker(store, add, clock, delay):
    late = await add(expires_in=60, delay=delay)
    other = await add()
    in_time = await add(expires_in=90)
    await store.pause("files", True)
    clock.advance(60)
    await store.promote()
    assert await state(store, late.id) is JobState.WAITING
    clock.advance(0.001)

    assert await store.promote() == 0

    job = await one(store, late.id)
    assert (job.state, job.failure.kind, job.attempt, job.due_us) == (JobState.FAILED, "expired", 1, None)
    assert job.failure.message == "not begun within 60 seconds after it was added"
    assert job.ended_us == int(clock.now() * 1e6)
    assert [await state(store, id) for id in (other.id, in_time.id)] == [JobState.WAITING] * 2
    last = (await events(store))[-1]
    assert (type(last), last.job_id, last.attempt, last.failure) == (Failed, late.id, 1, job.failure)
    assert await figures(store) == {"failed": 1, "waiting": 2}


async def test_it_is_not_claimed_after_that_and_runs_when_it_is_retried_by_hand(store, add, claim, clock):
    job = await add(expires_in=60)
    clock.advance(61)
    await store.promote()
    assert await claim() == []

    await store.retry(Selection("files", ids=(job.id,)))
    clock.advance(3600)
    await store.promote()

    [again] = await claim()
    assert (again.id, again.attempt, again.attempts) == (job.id, 2, 2)


async def test_what_has_begun_in_time_is_left_alone(store, add, claim, clock):
    running, retried, stalled = [await add(expires_in=60, attempts=3) for _ in range(3)]
    jobs = {job.id: job for job in await claim(3, lease=100)}
    await store.settle([Retry(jobs[retried.id].lease, 0, BROKEN)])
    clock.advance(61)
    await store.renew([jobs[running.id].lease], lease=1000)
    await store.promote()
    assert await state(store, stalled.id) is JobState.ACTIVE
    clock.advance(100)
    await store.recover()
    clock.advance(100)
    await store.promote()

    assert await state(store, running.id) is JobState.ACTIVE
    assert [await state(store, job.id) for job in (retried, stalled)] == [JobState.WAITING] * 2
    await store.settle([Complete(jobs[running.id].lease)])
    clock.advance(1000)
    await store.promote()
    assert await state(store, running.id) is JobState.COMPLETED


async def test_what_was_only_given_back_has_not_begun(store, add, claim, clock):
    job = await add(expires_in=60)
    [held] = await claim(lease=1000)
    clock.advance(61)
    await store.promote()
    assert await state(store, job.id) is JobState.ACTIVE
    await store.settle([Release(held.lease)])
    clock.advance(61)

    await store.promote()

    assert (await one(store, job.id)).failure.kind == "expired"


async def test_jobs_that_their_key_holds_up_expire_too_and_let_others_go_on(store, clock, claim):
    await store.limit("files", Limits(key_concurrency=1))
    new = [
        NewJob("first", "files", "resize", key="acme", options=Options(expires_in=60)),
        NewJob("second", "files", "resize", key="acme", options=Options(expires_in=30)),
        NewJob("third", "files", "resize", key="acme"),
    ]
    await store.add(new)
    clock.advance(31)
    await store.promote()
    assert [await state(store, id) for id in ("first", "second", "third")] == ["waiting", "failed", "blocked"]
    clock.advance(30)
    await store.promote()

    assert [await state(store, id) for id in ("first", "third")] == ["failed", "waiting"]
    assert [job.id for job in await claim(5)] == ["third"]


async def test_an_expired_job_lets_its_dedup_key_go(store, add, clock):
    await add(id="a", expires_in=60, dedup=Dedup("k"))
    clock.advance(50)
    await add(id="b", expires_in=60, dedup=Dedup("k", then="replace"))
    clock.advance(50)
    await store.promote()
    assert await state(store, "a") is JobState.WAITING
    clock.advance(11)
    await store.promote()

    assert await state(store, "a") is JobState.FAILED
    assert (await add(id="c", dedup=Dedup("k"))).id == "c"


async def test_what_a_schedule_adds_expires(store, clock):
    [its] = await put(store, kept())
    fired = firing(its)
    [job] = fired.jobs
    jobs = (msgspec.structs.replace(job, options=Options(expires_in=60)),)
    await store.fire([msgspec.structs.replace(fired, jobs=jobs)])
    clock.advance(61)

    await store.promote()

    assert await state(store, job.id) is JobState.FAILED


async def test_a_job_that_is_moved_here_expires(store, clock):
    await store.add([NewJob("a", "files", "resize", options=Options(expires_in=60))])
    packed = await store.pack("files", JobState.WAITING)
    await store.remove(Selection("files", ids=("a",)))
    clock.advance(59)
    await store.adopt(packed)
    clock.advance(2)

    await store.promote()

    assert await state(store, "a") is JobState.FAILED


async def test_many_expire_in_steps(store, clock):
    await store.add([NewJob(str(n), "files", "resize", options=Options(expires_in=60 + n % 3)) for n in range(50)])
    clock.advance(70)

    await store.promote(limit=20)
    assert (await figures(store))["failed"] == 20
    await store.promote(limit=100)

    assert await figures(store) == {"failed": 50}


async def test_a_job_that_waits_for_its_parents_expires_and_fails_its_children(store, clock, claim):
    options = Options(expires_in=60)
    flow = [
        FlowJob(NewJob("a", "files", "resize")),
        FlowJob(NewJob("b", "files", "resize", options=options), (Wait("files", "a", "a"),)),
        FlowJob(NewJob("c", "files", "resize"), (Wait("files", "b", "b"),)),
        FlowJob(NewJob("d", "files", "resize", options=options)),
    ]
    await store.grow(NewFlow("flow"), flow)
    clock.advance(61)

    await store.promote()

    assert [await state(store, id) for id in "abcd"] == ["waiting", "failed", "failed", "failed"]
    assert [(await one(store, id)).failure.kind for id in "bc"] == ["expired", "parent"]
    [job] = await claim(5)
    await store.settle([Complete(job.lease)])
    [found] = (await store.flows(["flow"])).flows
    assert (found.completed, found.failed, found.state) == (1, 3, "failed")


async def test_a_job_of_a_batch_expires(store, clock):
    jobs = [FlowJob(NewJob(str(n), "files", "resize", options=Options(expires_in=60))) for n in range(5)]
    await store.grow(NewFlow("batch", kind=FlowKind.BATCH, open=True), jobs)
    clock.advance(61)

    await store.promote()

    [found] = (await store.flows(["batch"])).flows
    assert (found.failed, found.total) == (5, 5)
