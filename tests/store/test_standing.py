"""Where a job stands: those before it in the order of claims, whether its queue is paused, when its lease is over."""

from __future__ import annotations

import random

from muskox.core.job import JobState, NewJob
from muskox.store.protocol import Selection, Want


async def before(store, id, *, names=None, most=100):
    found = await store.standing("files", id, names=names, most=most)
    return found.higher, found.earlier


async def test_a_job_that_is_not_there_stands_nowhere(store, add):
    await add()

    assert await store.standing("files", "nobody", names=None, most=10) is None
    assert await store.standing("nowhere", "job-1", names=None, most=10) is None


async def test_those_before_it_are_counted_by_priority_and_arrival(store, add):
    await add("resize", id="low", priority=-1)
    await add("resize", id="first")
    await add("convert", id="second")
    await add("resize", id="third")
    await add("convert", id="high", priority=5)

    assert [await before(store, id) for id in ("high", "first", "second", "third", "low")] == [
        (0, 0), (1, 0), (1, 1), (1, 2), (4, 0),
    ]  # fmt: skip


async def test_only_names_that_are_asked_for_are_in_its_way(store, add):
    for name in ("resize", "convert", "resize", "convert"):
        await add(name)
    await add("resize", id="last")
    await add("resize", priority=1)

    assert await before(store, "last", names={"resize"}) == (1, 2)
    assert await before(store, "last", names={"convert"}) == (0, 2)
    assert await before(store, "last", names=()) == (0, 0)


async def test_no_more_are_counted_than_asked_for(store, add):
    await store.add([NewJob(f"high-{number}", "files", "resize", priority=1) for number in range(30)])
    await store.add([NewJob(f"early-{number}", "files", "resize") for number in range(30)])
    await add(id="last")

    assert await before(store, "last", most=20) == (20, 20)
    assert await before(store, "last", most=30) == (30, 30)


async def test_jobs_that_left_the_line_are_in_nobodys_way(store, add, claim):
    for _ in range(5):
        await add()
    await add(id="last")
    await store.cancel(Selection("files", ids=("job-2", "job-4")))
    await claim(1)

    assert await before(store, "last") == (0, 2)


async def test_jobs_that_became_due_stand_where_they_were_due(store, add, clock):
    await add(id="due", delay=5)
    await add(id="also-due", delay=5)
    await add(id="first")
    clock.advance(6)
    await add(id="last")
    await store.promote()

    assert await before(store, "first") == (0, 0)
    assert sorted([await before(store, "due"), await before(store, "also-due")]) == [(0, 1), (0, 2)]
    assert await before(store, "last") == (0, 3)


async def test_a_standing_agrees_with_the_order_of_claims(store, clock):
    dice = random.Random(7)
    for number in range(40):
        name, delay = dice.choice(["resize", "convert"]), dice.choice([0, 0, 1.1, 3.2])
        await store.add([NewJob(f"job-{number}", "files", name, priority=dice.randint(-1, 1), delay=delay)])
        clock.advance(0.125)
    clock.advance(4)
    await store.promote()
    places = [sum(await before(store, f"job-{number}")) for number in range(40)]

    order = [job.id for job in await store.claim([Want("files")], limit=40, worker="a", lease=30)]

    assert [places[int(id.removeprefix("job-"))] for id in order] == list(range(40))


async def test_it_knows_whether_the_queue_is_paused_and_what_time_it_is(store, add, clock):
    job = await add()
    clock.advance(2)
    await store.pause("files", True)

    found = await store.standing("files", job.id, names=None, most=10)

    assert found.paused
    assert found.job == job
    assert found.now_us == job.added_us + 2_000_000
    assert found.lease_until_us is None


async def test_an_active_job_stands_with_the_end_of_its_lease(store, add, claim, clock):
    await add()
    await add(id="other")
    one, other = await claim(2, lease=30)
    clock.advance(10)
    await store.renew([other.lease], lease=30)

    [mine, its] = [await store.standing("files", id, names=None, most=10) for id in (one.id, other.id)]

    assert mine.job.state is JobState.ACTIVE
    assert mine.lease_until_us == one.started_us + 30_000_000
    assert its.lease_until_us == one.started_us + 40_000_000
    assert (mine.higher, mine.earlier) == (0, 0)
