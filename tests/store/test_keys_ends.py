"""Slots of keys: whatever ends a run, its slot comes back once; and what is known of a key fits its jobs."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import JobState, NewJob, Options
from muskox.core.life import Complete, Fail, Hold, Release, Retry, Stall
from muskox.core.limits import NO_LIMITS, KeyLimits, Limits, Rate
from muskox.store.protocol import KeyState, Packed, Selection
from tests.store.reading import BROKEN, figures, kinds, latest, one, state
from tests.store.schedules import SECOND, START, firing, kept, put

W, D, B, A = JobState.WAITING, JobState.DELAYED, JobState.BLOCKED, JobState.ACTIVE
F, X = JobState.FAILED, JobState.CANCELLED
GONE = Failure(FailureKind.STALLED, message="killed")

SETTLEMENTS = {
    "completed": Complete,
    "completed with a result": lambda lease: Complete(lease, '"done"'),
    "completed and removed": lambda lease: Complete(lease, keep=0),
    "failed": lambda lease: Fail(lease, BROKEN),
    "failed and removed": lambda lease: Fail(lease, BROKEN, keep=0),
    "stalled for good": lambda lease: Fail(lease, GONE),
    "tried again later": lambda lease: Retry(lease, 60, BROKEN),
    "stalled": lambda lease: Stall(lease, 60, GONE),
    "given back for later": lambda lease: Release(lease, 60),
}


@pytest.fixture(autouse=True)
async def sound(store):
    """Whatever a test does, what is kept of keys must fit the jobs afterwards."""
    yield
    assert await store.audit() == []


@pytest.fixture
async def running(store, clock, add, claim):
    """The run of job `a`, whose key may have one; `b` and `c` wait behind it."""
    await store.limit("files", Limits(key_concurrency=1))
    for id in "abc":
        await add(id=id, key="acme", max_stalls=5)
        clock.advance(0.001)
    [job] = await claim(5)
    return job


async def stand(store, key="acme"):
    [found] = await store.keys("files", [key])
    return found.waiting, found.blocked, found.active


@pytest.mark.parametrize("settlement", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_a_settlement_gives_the_slot_to_the_next_once(store, claim, running, settlement):
    assert await stand(store) == (0, 2, 1)
    before = await latest(store)

    assert await store.settle([settlement(running.lease)]) == []

    assert await stand(store) == (1, 1, 0)
    assert await kinds(store, "b", after=before) == ["waiting"]
    await store.settle([settlement(running.lease)])
    assert [job.id for job in await claim(5)] == ["b"]
    await store.settle([settlement(running.lease)])
    assert await stand(store) == (0, 1, 1)
    assert await claim(5) == []


@pytest.mark.parametrize(
    "settlement", [lambda lease: Retry(lease, 0, BROKEN), Release, lambda lease: Stall(lease, 0, GONE)]
)
async def test_a_job_that_waits_again_joins_the_line_of_its_key(store, claim, running, settlement):
    """Behind those that arrived before; it has no claim on the slot that it had."""
    before = await latest(store)

    await store.settle([settlement(running.lease)])

    assert [await state(store, id) for id in "abc"] == [B, W, B]
    assert (await kinds(store, "a", after=before))[1:] == ["blocked"]
    assert await stand(store) == (1, 2, 0)


async def test_several_jobs_of_a_key_settled_together_let_as_many_follow(store, add, claim):
    await store.limit("files", Limits(key_concurrency=3))
    for _ in range(9):
        await add(key="acme")
    jobs = await claim(9)

    await store.settle([Complete(jobs[0].lease), Fail(jobs[1].lease, BROKEN), Complete(jobs[2].lease, "1")])

    assert await stand(store) == (3, 3, 0)


@pytest.mark.parametrize("verb", ["cancel", "remove"])
async def test_an_active_job_that_is_taken_away_gives_its_slot_back_once(store, claim, running, verb):
    assert await getattr(store, verb)(Selection("files", ids=("a",))) == 1
    assert await stand(store) == (1, 1, 0)

    assert await store.settle([Complete(running.lease)]) == [running.lease]

    assert await stand(store) == (1, 1, 0)
    assert [job.id for job in await claim(5)] == ["b"]


@pytest.mark.parametrize("verb", ["cancel", "remove"])
async def test_a_job_in_line_that_is_taken_away_makes_room_for_the_next(store, running, verb):
    await store.settle([Complete(running.lease)])

    assert await getattr(store, verb)(Selection("files", ids=("b",))) == 1

    assert await state(store, "c") is W
    assert await stand(store) == (1, 0, 0)


@pytest.mark.parametrize("verb", ["cancel", "remove"])
async def test_a_blocked_job_that_is_taken_away_leaves_the_others_as_they_are(store, claim, running, verb):
    assert await getattr(store, verb)(Selection("files", states=(B,), limit=1)) == 1
    assert await stand(store) == (0, 1, 1)

    await store.settle([Complete(running.lease)])

    assert [job.id for job in await claim(5)] == ["c"]


async def test_all_jobs_of_a_key_may_be_cancelled_at_once(store, claim, running):
    assert await store.cancel(Selection("files")) == 3

    assert await stand(store) == (0, 0, 0)
    assert await figures(store) == {"cancelled": 3}


async def test_a_job_retried_by_hand_joins_the_line_of_its_key(store, clock, claim, running):
    await store.settle([Fail(running.lease, BROKEN)])
    clock.advance(1)

    assert await store.retry(Selection("files", ids=("a",))) == 1

    assert [await state(store, id) for id in "abc"] == [B, W, B]
    await store.cancel(Selection("files", ids=("b", "c")))
    assert await state(store, "a") is W


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_delayed_job_joins_the_line_of_its_key_when_it_is_due(store, clock, add, running, by_hand):
    job = await add(id="late", key="acme", delay=60)
    assert (job.state, await stand(store)) == (D, (0, 2, 1))
    clock.advance(0 if by_hand else 60)
    before = await latest(store)

    assert await store.promote(Selection("files", ids=("late",)) if by_hand else None) == 1

    assert await state(store, "late") is B
    assert await kinds(store, "late", after=before) == ["blocked"]
    assert await stand(store) == (0, 3, 1)


async def test_fault_q03_the_slot_of_a_holder_that_is_gone_comes_back_with_its_lease_and_only_once(
    store, clock, claim, running
):
    clock.advance(29)
    assert await store.recover() == []
    assert await claim(5) == []
    clock.advance(2)

    [recovered] = await store.recover()

    assert (recovered.job.id, recovered.job.stalls, recovered.job.state) == ("a", 1, B)
    assert await stand(store) == (1, 2, 0)
    [second] = await claim(5)
    assert second.id == "b"
    # It was only asleep, and says now what it has done.
    assert await store.settle([Complete(running.lease)]) == [running.lease]
    assert await store.renew([running.lease], lease=30) == [running.lease]
    assert await stand(store) == (0, 2, 1)
    assert await claim(5) == []


async def test_a_job_that_stalls_for_good_gives_its_slot_back(store, clock, add, claim):
    await store.limit("files", Limits(key_concurrency=1))
    for id in "ab":
        await add(id=id, key="acme", max_stalls=0)
    await claim(1)
    clock.advance(31)

    await store.recover()

    assert [await state(store, id) for id in "ab"] == [F, W]


async def test_a_job_given_back_with_a_hold_on_its_key_holds_nothing_else(store, clock, add, claim, running):
    await add(id="other", key="other")

    await store.settle([Release(running.lease, 30, Hold.KEY)])

    job = await one(store, "a")
    assert (job.state, job.attempt, job.releases, job.due_us) == (B, 0, 1, None)
    assert [job.id for job in await claim(5)] == ["other"]
    clock.advance(30)
    assert [job.id for job in await claim(5)] == ["b"]


async def test_a_job_without_a_key_given_back_with_a_hold_on_it_is_delayed(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    before = await latest(store)

    await store.settle([Release(job.lease, 30, Hold.KEY)])

    job = await one(store, "a")
    assert (job.state, job.attempt, job.releases, job.due_us) == (D, 0, 1, int(clock.now() * 1_000_000) + 30_000_000)
    assert await kinds(store, "a", after=before) == ["released"]
    clock.advance(30)
    assert await store.promote() == 1
    assert (await claim())[0].attempt == 1


# --- what is known of keys ---------------------------------------------------------------


async def test_a_key_nothing_is_known_of_has_the_defaults_of_its_queue(store):
    assert await store.keys("files", ["nobody"]) == [KeyState("nobody", KeyLimits())]

    await store.limit("files", Limits(key_rate=Rate(2, burst=5), key_concurrency=3))

    assert await store.keys("files", ["nobody"]) == [
        KeyState("nobody", KeyLimits(), rate=Rate(2, burst=5), concurrency=3, tokens=5)
    ]


async def test_a_key_tells_how_it_stands(store, clock, add, claim):
    await store.limit("files", Limits(key_rate=Rate(1, per=10, burst=2)))
    await store.limit_key("files", "acme", KeyLimits(concurrency=9, weight=2))
    for _ in range(5):
        await add(key="acme")
    now = int(clock.now() * 1_000_000)

    [before] = await store.keys("files", ["acme"])
    await claim(5)
    [after] = await store.keys("files", ["acme"])
    await store.hold("files", 60, key="acme")
    [held] = await store.keys("files", ["acme"])

    said = KeyState("acme", KeyLimits(concurrency=9, weight=2), rate=Rate(1, per=10, burst=2), concurrency=9)
    assert before == msgspec.structs.replace(said, waiting=2, blocked=3, tokens=2)
    assert after == msgspec.structs.replace(said, blocked=3, active=2, tokens=0, next_us=now + 10_000_000)
    assert held.held_until_us == now + 60_000_000


async def test_keys_are_given_page_by_page_in_the_order_of_their_names(store, add):
    for key in ("b", "d", "a", "e", "c"):
        await add(key=key)
    await store.limit_key("files", "own", KeyLimits(weight=2))
    await add(key="elsewhere", queue="email")

    pages = [await store.keys("files", limit=4), await store.keys("files", after="d", limit=4)]

    assert [[key.key for key in page] for page in pages] == [["a", "b", "c", "d"], ["e", "own"]]
    assert await store.keys("nowhere") == []


async def test_a_key_whose_jobs_have_ended_is_forgotten(store, clock, add, claim):
    await store.limit("files", Limits(key_rate=Rate(1, per=10)))
    await add(key="acme")
    [job] = await claim()
    await store.settle([Complete(job.lease)])
    assert await store.keys("files") == []
    # Its bucket is not forgotten before it is full.
    await store.clear({})
    assert (await store.keys("files", ["acme"]))[0].tokens == 0

    clock.advance(10)
    await store.clear({})

    assert (await store.keys("files", ["acme"]))[0].tokens == 1


async def test_limits_of_its_own_outlast_the_jobs_of_a_key(store, add, claim):
    await store.limit_key("files", "acme", KeyLimits(concurrency=1))
    await add(key="acme")
    [job] = await claim()
    await store.settle([Complete(job.lease)])
    await store.clear({})

    assert await store.keys("files") == [KeyState("acme", KeyLimits(concurrency=1), concurrency=1)]
    await store.limit_key("files", "acme", None)
    await store.clear({})
    assert await store.keys("files") == []


async def test_a_blocked_job_knows_what_it_waits_for(store, clock, add, claim, running):
    await add(id="high", key="acme", priority=5)
    await add(id="other", key="other")

    found = await store.standing("files", "c", names=None, most=10)

    assert (found.higher, found.earlier) == (1, 1)
    assert found.holders == ("a",)
    assert found.key == (await store.keys("files", ["acme"]))[0]
    assert found.limits.limits == Limits(key_concurrency=1)


async def test_a_job_without_key_in_a_queue_without_limits_stands_as_ever(store, add):
    await add(id="a")

    found = await store.standing("files", "a", names=None, most=10)

    assert (found.limits, found.key, found.holders) == (None, None, ())
    assert (await store.limits("files")).limits == NO_LIMITS


async def test_jobs_of_a_schedule_join_the_line_of_their_key(store):
    await store.limit("files", Limits(key_concurrency=1))
    [due] = await put(store, kept())
    fired = firing(due, START, START + 10 * SECOND)
    jobs = tuple(msgspec.structs.replace(job, key="acme") for job in fired.jobs)

    assert await store.fire([msgspec.structs.replace(fired, jobs=jobs)]) == [2]

    assert await stand(store) == (1, 1, 0)
    assert [(await one(store, job.id)).key for job in jobs] == ["acme", "acme"]


# --- moving house ------------------------------------------------------------------------


async def test_jobs_with_keys_are_taken_over_into_the_line_of_their_key(store, clock, add, claim, running):
    await store.settle([Complete(running.lease)])
    packed = [*await store.pack("files", W), *await store.pack("files", B)]
    assert [(one.job.id, one.job.key) for one in packed] == [("b", "acme"), ("c", "acme")]
    await store.remove(Selection("files", ids=("b", "c")))
    assert await stand(store) == (0, 0, 0)

    added = await store.adopt(packed)

    assert [(one.created, one.job.id, one.job.state) for one in added] == [(True, "b", W), (True, "c", B)]
    assert await stand(store) == (1, 1, 0)
    assert [job.id for job in await claim(5)] == ["b"]


async def test_an_ended_job_that_is_taken_over_keeps_its_key(store, running):
    await store.settle([Complete(running.lease)])
    [packed] = await store.pack("files", JobState.COMPLETED)
    await store.remove(Selection("files", ids=("a",)))

    await store.adopt([packed])

    assert (await one(store, "a")).key == "acme"
    assert await stand(store) == (1, 1, 0)


async def test_a_waiting_job_is_blocked_where_its_key_has_no_room(store, running):
    job = msgspec.structs.replace(await one(store, "b"), id="d", state=W)

    [added] = await store.adopt([Packed(job, arrival_us=job.added_us)])

    assert (added.job.state, await state(store, "d")) == (B, B)


async def test_many_jobs_of_many_keys_leave_nothing_wrong_behind(store, clock, claim):
    await store.limit("files", Limits(key_concurrency=2))
    jobs = [
        NewJob(f"{number}", "files", "resize", key=f"k{number % 7}", priority=number % 3, options=Options(attempts=3))
        for number in range(120)
    ]
    await store.add(jobs)
    started = 0
    while claimed := await claim(10):
        started += len(claimed)
        clock.advance(0.01)
        ends = [Complete, lambda lease: Retry(lease, 0, BROKEN), lambda lease: Complete(lease, "1")]
        await store.settle(
            [ends[number % 3 if job.attempt == 1 else 0](job.lease) for number, job in enumerate(claimed)]
        )

    assert started > 120
    assert await figures(store) == {"completed": 120}
