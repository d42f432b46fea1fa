"""Limits of queues: how many jobs start in some time and run at once, over all workers; holds; and changing them."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Fail, Hold, Release
from muskox.core.limits import Limits, Rate
from muskox.store.protocol import Selection, Want
from tests.store.conftest import claimer
from tests.store.reading import BROKEN, figures, kinds, latest, one


@pytest.fixture
async def jobs(store):
    """Thirty jobs that wait."""
    await store.add([NewJob(f"{number:02}", "files", "resize") for number in range(30)])


def ids(jobs):
    return [job.id for job in jobs]


def now_us(clock):
    return int(clock.now() * 1_000_000)


async def complete(store, jobs):
    assert await store.settle([Complete(job.lease) for job in jobs]) == []


# --- concurrency --------------------------------------------------------------------------


async def test_mission_a18_no_more_of_a_queue_run_at_once_than_its_concurrency(store, claim, jobs):
    await store.limit("files", Limits(concurrency=3))

    running = await claim(10)

    assert ids(running) == ["00", "01", "02"]
    assert await claim(10, worker="another") == []
    await complete(store, running[:2])
    assert ids(await claim(10, worker="another")) == ["03", "04"]
    assert await figures(store) == {"waiting": 25, "active": 3, "completed": 2}


async def test_the_concurrency_of_a_queue_is_for_all_its_names_together(store, add, claim):
    await store.limit("files", Limits(concurrency=3))
    for name in ("resize", "convert") * 3:
        await add(name)

    assert [job.name for job in await claim(2, names=frozenset({"resize"}))] == ["resize"] * 2
    assert [job.name for job in await claim(9)] == ["convert"]
    assert await claim(9) == []


ENDS = {
    "completed": lambda store, job: store.settle([Complete(job.lease)]),
    "failed": lambda store, job: store.settle([Fail(job.lease, BROKEN)]),
    "given back for later": lambda store, job: store.settle([Release(job.lease, 60)]),
    "cancelled": lambda store, job: store.cancel(Selection("files", ids=(job.id,))),
    "removed": lambda store, job: store.remove(Selection("files", ids=(job.id,))),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_whatever_ends_a_run_gives_its_slot_back_once(store, claim, jobs, end):
    await store.limit("files", Limits(concurrency=1))
    [job] = await claim(5)

    await end(store, job)
    await store.settle([Complete(job.lease)])

    assert len(await claim(5)) == 1
    assert await claim(5) == []
    assert await store.audit() == []


async def test_a_slot_whose_holder_is_gone_comes_back_with_its_lease(store, clock, claim, jobs):
    await store.limit("files", Limits(concurrency=1))
    [job] = await claim(5)
    clock.advance(31)
    assert await claim(5) == []

    await store.recover()

    assert len(await claim(5)) == 1
    assert await store.settle([Complete(job.lease)]) == [job.lease]
    assert await claim(5) == []


async def test_claims_at_the_same_time_never_take_more_than_there_are_slots(store, jobs):
    await store.limit("files", Limits(concurrency=5))
    claim = claimer(store)

    taken = await asyncio.gather(*[claim(3, worker=f"w{number}") for number in range(12)])

    assert sum(map(len, taken)) == 5


# --- rate ---------------------------------------------------------------------------------


async def test_mission_a18_starts_are_spread_evenly_over_the_time_of_a_rate(store, clock, claim, jobs):
    await store.limit("files", Limits(rate=Rate(10, per=1)))

    starts = []
    for _ in range(20):
        starts.append(len(await claim(9)))
        clock.advance(0.051)

    assert starts == [1, 0] * 10


async def test_a_burst_starts_at_once_after_a_quiet_time(store, clock, claim, jobs):
    await store.limit("files", Limits(rate=Rate(6, per=60, burst=4)))

    starts = []
    for seconds in (10, 10, 25, 1000, 10):
        starts.append(len(await claim(9)))
        clock.advance(seconds)

    assert starts == [4, 1, 1, 2, 4]


async def test_at_a_high_rate_what_comes_in_a_twentieth_of_a_second_starts_together(store, clock, claim):
    await store.add([NewJob(f"{number}", "files", "resize") for number in range(200)])
    await store.limit("files", Limits(rate=Rate(1000)))

    starts = []
    for _ in range(3):
        starts.append(len(await claim(200)))
        clock.advance(0.02)

    assert starts == [50, 20, 20]


@pytest.mark.parametrize(
    "rate", [Rate(3, per=1), Rate(7, per=2, burst=3), Rate(1000, per=7, burst=11), Rate(1, per=0.3)]
)
async def test_fault_q01_in_no_window_start_more_than_its_rate_and_burst(store, clock, claim, rate):
    await store.add([NewJob(f"{number}", "files", "resize") for number in range(300)])
    await store.limit("files", Limits(rate=rate))
    starts = []
    for _ in range(40):
        # Any steps will do that are no multiple of the interval, and shorter than it.
        clock.advance(rate.interval / 1_000_000 * 0.37)
        starts += [clock.now()] * len(await claim(4))

    for number, first in enumerate(starts):
        within = [start for start in starts[number:] if start < first + rate.per - 1e-6]
        assert len(within) <= rate.limit + rate.size - 1
    # And no less than what is allowed, but for the burst that it began with and what the steps cut off.
    assert len(starts) >= int(40 * 0.37) - 1


async def test_only_what_starts_takes_from_the_rate(store, clock, add, claim):
    await store.limit("files", Limits(rate=Rate(1, per=10, burst=5)))
    await add()
    await claim(5)

    assert (await store.limits("files")).tokens == 4
    await store.pause("files", True)
    await add()
    assert await claim(5) == []
    assert (await store.limits("files")).tokens == 4


async def test_rate_and_concurrency_hold_together(store, clock, claim, jobs):
    await store.limit("files", Limits(rate=Rate(1, per=10, burst=3), concurrency=2))

    first = await claim(9)
    await complete(store, first)
    second = await claim(9)
    await complete(store, second)

    assert [len(first), len(second), len(await claim(9))] == [2, 1, 0]


async def test_a_limited_queue_takes_nothing_from_another(store, claim, jobs):
    await store.add([NewJob(f"{number}", "email", "send") for number in range(30)])
    await store.limit("files", Limits(concurrency=2))

    claimed = await store.claim([Want("files"), Want("email")], limit=12, worker="w", lease=30)

    assert [sum(job.queue == queue for job in claimed) for queue in ("files", "email")] == [2, 10]


async def test_fault_q02_a_clock_set_back_by_an_hour_locks_no_limit_for_an_hour(store, clock, claim, jobs):
    await store.limit("files", Limits(rate=Rate(1, per=10), key_rate=Rate(1, per=10)))
    await store.add([NewJob(f"k{number}", "email", "send", key="acme") for number in range(3)])
    await store.limit("email", Limits(key_rate=Rate(1, per=10)))
    assert len(await claim(5)) == len(await claim(5, queue="email")) == 1

    clock.jump(-3600)
    assert await claim(5) == await claim(5, queue="email") == []
    for _ in range(2):
        clock.advance(10)
        assert len(await claim(5)) == len(await claim(5, queue="email")) == 1
    assert await claim(5) == await claim(5, queue="email") == []
    assert await store.audit() == []


async def test_fault_q02_a_clock_set_back_by_an_hour_holds_nothing_for_an_hour(store, clock, add, claim, jobs):
    await add(queue="email", key="acme")
    await store.hold("files", 20)
    await store.hold("email", 20, key="acme")
    assert await claim(5) == await claim(5, queue="email") == []

    clock.jump(-3600)
    assert await store.recover() == []
    clock.advance(21)

    assert len(await claim(5)) == 5
    assert len(await claim(5, queue="email")) == 1


# --- holds --------------------------------------------------------------------------------


async def test_a_held_queue_starts_nothing_until_its_time_is_over(store, clock, claim, jobs):
    [running] = await claim(1)

    await store.hold("files", 30)

    assert await claim(5) == []
    await complete(store, [running])
    clock.advance(29)
    assert await claim(5) == []
    clock.advance(1)
    assert len(await claim(5)) == 5


async def test_a_longer_hold_of_a_queue_stays_and_can_be_ended(store, clock, claim, jobs):
    await store.hold("files", 30)
    await store.hold("files", 5)
    clock.advance(6)
    assert await claim(5) == []
    assert (await store.limits("files")).held_until_us == now_us(clock) + 24_000_000

    await store.hold("files", 0)

    assert len(await claim(5)) == 5
    assert (await store.limits("files")).held_until_us is None


async def test_a_job_given_back_with_a_hold_on_its_queue_waits_and_so_do_the_others(store, clock, claim, jobs):
    [job, other] = await claim(2)
    before = await latest(store)

    await store.settle([Release(job.lease, 30, Hold.QUEUE)])

    back = await one(store, job.id)
    assert (back.state, back.attempt, back.releases) == (JobState.WAITING, 0, 1)
    assert await kinds(store, job.id, after=before) == ["released", "waiting"]
    assert await claim(5) == []
    await complete(store, [other])
    clock.advance(30)
    assert len(await claim(50)) == 29


async def test_a_limited_queue_is_not_drained_before_its_last_job_is_claimed(store, claim, jobs):
    await store.limit("files", Limits(concurrency=29))

    running = await claim(50)
    before = await kinds(store)
    await complete(store, running)
    await claim(50)

    assert "drained" not in before
    assert (await kinds(store)).count("drained") == 1


async def test_a_waiting_job_knows_the_limits_that_hold_it(store, clock, claim, jobs):
    await store.limit("files", Limits(concurrency=2))
    await claim(9)

    found = await store.standing("files", "05", names=None, most=10)

    assert found.limits == await store.limits("files")
    assert found.limits.active == 2


async def test_limits_are_seen_by_whoever_else_has_the_store_open(shared, another, clock):
    _, store = shared
    await store.add([NewJob(f"{number}", "files", "resize", key="acme") for number in range(9)])
    await store.limit("files", Limits(concurrency=2, key_rate=Rate(1, per=9)))

    first, second = await claimer(another)(9), await claimer(store)(9)

    assert (len(first), len(second)) == (1, 0)
    assert (await another.limits("files")).limits == (await store.limits("files")).limits


# However long that takes here: it must be before the time that is given is over.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("limits", [Limits(concurrency=1), Limits(key_concurrency=1)])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_waiting_ends_when_a_slot_comes_back(store, add, claim, limits, end):
    await store.limit("files", limits)
    for _ in range(3):
        await add(key="acme")
    [job] = await claim(5)
    assert await claim(5) == []

    waiting = asyncio.ensure_future(store.wait(["files"], seconds=600))
    await asyncio.sleep(0)
    await end(store, job)

    await waiting


# Time stands still in the store while the machine's goes on, so what is waited for is longer than a hold.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("key", [None, "acme"])
async def test_waiting_ends_when_what_was_held_may_go_on(store, add, claim, key):
    await add(key="acme")
    await store.hold("files", 0.3, key=key)
    assert await claim() == []

    await store.wait(["files"], seconds=600)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("key", [None, "acme"])
async def test_waiting_that_began_before_it_was_known_ends_then_too(store, add, claim, key):
    """As a worker does it: it begins to wait, and then looks once more."""
    await add(key="acme")
    await store.hold("files", 0.3, key=key)

    waiting = asyncio.ensure_future(store.wait(["files"], seconds=600))
    await asyncio.sleep(0)
    assert await claim() == []

    await waiting
