"""Who is claimed next: priority, then arrival, fairly between queues, and never for ever behind others."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Release
from muskox.store.protocol import Want
from tests.store.reading import figures, kinds, one, state


async def ids(claimed):
    return [job.id for job in await claimed]


async def test_mission_a08_jobs_are_claimed_in_the_order_of_arrival(store, clock, add, claim):
    for id in "abc":
        await add(id=id)
        clock.advance(1)

    assert [await ids(claim(1)), await ids(claim(5))] == [["a"], ["b", "c"]]


async def test_mission_a08_jobs_of_one_moment_keep_their_order(store, add, claim):
    for number in range(20):
        await add(id=f"{number:02}")

    assert await ids(claim(20)) == [f"{number:02}" for number in range(20)]


async def test_mission_a09_higher_priority_runs_sooner(store, add, claim):
    for priority in (0, 5, -3, 100, 5):
        await add(priority=priority)

    assert [job.priority for job in await claim(5)] == [100, 5, 5, 0, -3]


async def test_mission_a09_within_a_priority_arrival_decides(store, clock, add, claim):
    for id, priority in [("a", 1), ("b", 2), ("c", 1), ("d", 2)]:
        await add(id=id, priority=priority)
        clock.advance(1)

    assert await ids(claim(4)) == ["b", "d", "a", "c"]


async def test_priority_counts_across_the_names_of_a_queue(store, clock, add, claim):
    await add("resize", id="a", priority=1)
    clock.advance(1)
    await add("convert", id="b", priority=2)
    clock.advance(1)
    await add("resize", id="c", priority=3)
    await add("convert", id="d", priority=1)

    assert await ids(claim(4)) == ["c", "b", "a", "d"]


async def test_a_claim_takes_no_more_than_its_limit(store, add, claim):
    for _ in range(5):
        await add()

    assert [len(await claim(limit)) for limit in (0, 2, 10, 1)] == [0, 2, 3, 0]


async def test_a_claimed_job_is_whole_and_active(store, clock, add, claim):
    added = await add(id="a", data='{"w":1}', attempts=3, priority=4)
    clock.advance(2)

    [job] = await claim(worker="worker-7")

    assert msgspec.structs.replace(job, arrival_us=None) == await one(store, "a")
    assert job.waited == pytest.approx(2, abs=0.001)
    assert (job.state, job.attempt, job.attempts, job.worker) == (JobState.ACTIVE, 1, 3, "worker-7")
    assert (job.data, job.priority, job.added_us) == ({"w": 1}, 4, added.added_us)
    assert job.started_us == int(clock.now() * 1e6)
    assert (job.lease.job_id, job.lease.queue, job.lease.name, job.lease.attempt) == ("a", "files", "resize", 1)


async def test_claims_are_told_and_the_last_one_drains(store, add, claim):
    await add(id="a")
    await add(id="b")

    await claim(1)
    assert await kinds(store) == ["waiting", "waiting", "active"]

    await claim(1)
    assert await kinds(store) == ["waiting", "waiting", "active", "active", "drained"]


async def test_an_empty_claim_tells_nothing(store, add, claim):
    await add(queue="email")

    assert await claim(3) == []
    assert await kinds(store) == ["waiting"]


async def test_mission_a05_names_that_are_not_wanted_stay(store, add, claim):
    await add("resize", id="a")
    await add("convert", id="b", priority=99)

    assert await ids(claim(5, names=frozenset({"resize"}))) == ["a"]
    assert await state(store, "b") is JobState.WAITING
    assert (await one(store, "b")).attempt == 0


async def test_mission_a05_no_wanted_name_is_no_job(store, add, claim):
    await add()

    assert await claim(5, names=frozenset()) == []
    assert await store.claim([], limit=5, worker="w", lease=30) == []


async def test_mission_a05_a_worker_may_want_any_name(store, add, claim):
    await add("resize")
    await add("never heard of")

    assert len(await claim(5, names=None)) == 2


async def test_names_are_wanted_per_queue(store, add):
    await add("resize", queue="files", id="a")
    await add("resize", queue="email", id="b")
    wants = [Want("files", frozenset({"welcome"})), Want("email", frozenset({"resize"}))]

    assert await ids(store.claim(wants, limit=5, worker="w", lease=30)) == ["b"]


async def test_queues_take_turns_whatever_their_length(store, add):
    for number in range(10):
        await add(queue="long", id=f"l{number}")
    for number in range(2):
        await add(queue="short", id=f"s{number}")

    claimed = await store.claim([Want("long"), Want("short")], limit=4, worker="w", lease=30)

    assert sorted(job.id for job in claimed) == ["l0", "l1", "s0", "s1"]


async def test_queues_take_turns_also_when_jobs_are_claimed_one_by_one(store, clock, add):
    for number in range(10):
        await add(queue="long", id=f"l{number}")
    clock.advance(1)
    for number in range(2):
        await add(queue="short", id=f"s{number}")

    claimed = [(await store.claim([Want("long"), Want("short")], limit=1, worker="w", lease=30))[0] for _ in range(6)]

    assert {job.id for job in claimed} >= {"s0", "s1"}


async def test_a_paused_queue_gives_nothing_and_the_others_go_on(store, add):
    await add(queue="files", id="a", priority=9)
    await add(queue="email", id="b")
    await store.pause("files", True)
    wants = [Want("files"), Want("email")]

    assert await ids(store.claim(wants, limit=5, worker="w", lease=30)) == ["b"]

    await store.pause("files", False)
    assert await ids(store.claim(wants, limit=5, worker="w", lease=30)) == ["a"]


async def test_mission_a10_a_delayed_job_is_not_claimed_before_it_is_due(store, clock, add, claim):
    await add(id="a", delay=60, priority=99)
    clock.advance(59.999)

    assert await store.promote() == 0
    assert await claim() == []

    clock.advance(0.001)
    assert await store.promote() == 1
    assert await ids(claim()) == ["a"]


async def test_a_due_job_takes_its_place_by_the_moment_it_was_due(store, clock, add, claim):
    await add(id="late", delay=10)
    await add(id="early", delay=5)
    clock.advance(20)
    await add(id="now")

    assert await store.promote() == 2
    assert await ids(claim(3)) == ["early", "late", "now"]


async def test_promotion_is_bounded_and_the_earliest_go_first(store, clock, add, claim):
    for delay in (3, 1, 2):
        await add(id=str(delay), delay=delay)
    clock.advance(5)

    assert await store.promote(limit=2) == 2
    assert await ids(claim(5)) == ["1", "2"]
    assert await store.promote(limit=2) == 1
    assert await store.promote(limit=2) == 0


async def test_promotion_of_many_keeps_the_figures(store, clock, add):
    for number in range(6):
        await add(("resize", "convert")[number % 2], queue=("files", "email")[number % 3 == 0], delay=1)
    clock.advance(1)

    assert await store.promote() == 6
    assert [await figures(store, queue) for queue in ("files", "email")] == [{"waiting": 4}, {"waiting": 2}]
    assert await store.audit() == []


async def test_promotion_is_told(store, clock, add):
    await add(id="a", delay=1)
    clock.advance(1)

    await store.promote()

    assert await kinds(store, "a") == ["delayed", "waiting"]
    assert (await one(store, "a")).due_us is None


async def run_one(store, claim):
    [job] = await claim()
    await store.settle([Complete(job.lease)])
    return job.id


@pytest.mark.parametrize("levels", [1, 5])
async def test_mission_a09_a_low_priority_is_late_but_never_starves(store, clock, add, claim, levels):
    await add(id="low", priority=-5)
    clock.advance(11)
    for number in range(100):
        await add(id=f"high-{number}", priority=1 + number % levels)

    order = [await run_one(store, claim) for _ in range(40)]

    assert order.index("low") < 20
    assert sum(id == "low" for id in order) == 1


async def test_mission_a09_a_low_priority_does_not_starve_in_batches_either(store, clock, add, claim):
    await add(id="low", priority=-5)
    clock.advance(11)
    for number in range(200):
        await add(id=f"high-{number}", priority=5)

    batches = [await ids(claim(7)) for _ in range(4)]

    assert "low" in [id for batch in batches for id in batch]


async def test_mission_a09_age_counts_only_after_ten_seconds(store, clock, add, claim):
    await add(id="low", priority=-5)
    clock.advance(9)
    for number in range(60):
        await add(id=f"high-{number}", priority=5)

    order = [await run_one(store, claim) for _ in range(45)]

    assert "low" not in order


async def test_a_released_job_is_claimed_again(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    await store.settle([Release(job.lease)])

    [again] = await claim()

    assert (again.id, again.attempt, again.releases) == ("a", 1, 1)


async def test_age_reaches_across_queues_and_names(store, clock, add):
    await add("convert", queue="email", id="low", priority=-1000)
    clock.advance(11)
    for number in range(60):
        await add("resize", queue="email", id=f"high-{number}", priority=1000)

    order = []
    for _ in range(25):
        [job] = await store.claim([Want("files"), Want("email")], limit=1, worker="w", lease=30)
        order.append(job.id)

    assert "low" in order


async def test_a_job_is_found_behind_any_number_of_others_that_nobody_here_can_run(store, claim):
    others = [NewJob(f"other-{number}", "files", "convert", priority=number) for number in range(1, 1300)]
    await store.add([*others, NewJob("a", "files", "resize"), NewJob("b", "files", "resize", priority=-1)])

    assert await ids(claim(5, names=frozenset({"resize"}))) == ["a", "b"]
    assert await ids(claim(3)) == ["other-1299", "other-1298", "other-1297"]
    assert len(await claim(2000)) == 1296


async def test_age_counts_among_any_number_of_priorities(store, clock, claim):
    await store.add([NewJob("low", "files", "resize", priority=-9)])
    clock.advance(11)
    await store.add([NewJob(str(number), "files", "resize", priority=number) for number in range(1300)])

    assert "low" in await ids(claim(20))


async def test_names_without_jobs_leave_the_others_what_is_theirs(store, clock, add, claim):
    names = ("convert", "resize", "zip")
    for name in names:
        await add(name)
    await store.settle([Complete(job.lease) for job in await claim(3)])
    await add("resize", id="a")
    want = Want("files", frozenset(names), {"convert": 5, "resize": 0, "zip": 5})

    [job] = await store.claim([want], limit=9, worker="w", lease=30)

    assert job.id == "a"
    clock.advance(31)
    await store.recover(limit=9)
    assert await state(store, "a") is JobState.FAILED
