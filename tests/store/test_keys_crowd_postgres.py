"""Keys in a crowd: many connections at the same keys at once leave none stuck with room and blocked jobs."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter

import psycopg
import pytest

from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Hold, Release, Retry
from muskox.core.limits import KeyLimits, Limits, Rate
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Selection, Want
from tests.servers import postgres
from tests.store.reading import BROKEN, figures

LIMIT = 60
ANY = [Want("files")]


@pytest.fixture(scope="module")
def own():
    with postgres.server(**postgres.FAST) as made:
        yield made


@pytest.fixture
async def stores(own):
    """Several store objects on one schema, each with connections of its own."""
    with postgres.schema(own.url) as url:
        opened = [open_store(url, RealWorld()) for _ in range(4)]
        for store in opened:
            await store.open()
        yield opened
        for store in opened:
            await store.close()


def deadlocks(own):
    """Who was in the way of whom, as the server tells; figures of it come late."""
    return re.findall(r"ERROR:  deadlock detected\n(?:.*DETAIL:.*\n(?:\t.*\n)*)?", own.log())


class Crowd:
    """Works on the jobs of a few keys, and sees that no more of a key run than may."""

    def __init__(self, most):
        self.most = most
        self.running = Counter()
        self.ended = set()
        self.left = 0

    async def add(self, store, jobs, dice):
        while jobs:
            some = [jobs.pop() for _ in range(min(len(jobs), dice.randint(1, 7)))]
            await store.add(some)

    async def work(self, store, dice):
        while len(self.ended) < self.left:
            jobs = await store.claim(ANY, limit=dice.randint(1, 9), worker="w", lease=600)
            for job in jobs:
                self.running[job.key] += 1
                assert job.key is None or self.running[job.key] <= self.most, f"too many of {job.key} run"
            if not jobs:
                await store.wait(["files"], seconds=0.05)
            await asyncio.sleep(0)
            settlements = [self.settlement(job, dice) for job in jobs]
            # Their slots are free in the store before the answer is here.
            for job in jobs:
                self.running[job.key] -= 1
            assert await store.settle(settlements) == []
            self.ended |= {one.lease.job_id for one in settlements if type(one) is Complete}

    def settlement(self, job, dice):
        if job.attempt == 1 and job.releases == 0:
            match dice.randrange(4):
                case 0:
                    return Retry(job.lease, 0, BROKEN)
                case 1:
                    return Release(job.lease)
        return Complete(job.lease, '"a result"' if dice.random() < 0.3 else None)


@pytest.mark.parametrize("most", [1, 3])
async def test_no_key_is_stuck_whatever_many_connections_do_at_once(own, stores, most):
    before = deadlocks(own)
    dice = random.Random(most)
    await stores[0].limit("files", Limits(key_concurrency=most))
    jobs = [
        NewJob(f"{number}", "files", "resize", key=f"k{dice.randrange(5)}", priority=dice.randrange(3))
        for number in range(400)
    ]
    crowd = Crowd(most)
    crowd.left = len(jobs)
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number, store in enumerate(stores):
            group.create_task(crowd.add(store, jobs, random.Random(number)))
            for worker in range(2):
                group.create_task(crowd.work(store, random.Random(10 * number + worker)))

    assert await figures(stores[0]) == {"completed": 400}
    assert await stores[0].audit() == []
    assert deadlocks(own) == before


async def by_hand(store, dice, *, rounds=40):
    for _ in range(rounds):
        match dice.randrange(6):
            case 0:
                await store.retry(Selection("files", ids=tuple(str(dice.randrange(300)) for _ in range(5))))
            case 1:
                await store.cancel(Selection("files", states=(JobState.BLOCKED,), limit=3))
            case 2:
                await store.cancel(Selection("files", states=(JobState.WAITING, JobState.ACTIVE), limit=2))
            case 3:
                await store.limit(
                    "files", Limits(key_concurrency=dice.choice([1, 2]), concurrency=dice.choice([20, 30]))
                )
            case 4:
                await store.limit_key("files", "k1", dice.choice([None, KeyLimits(concurrency=1), KeyLimits(Rate(50))]))
            case 5:
                await store.hold("files", dice.choice([0, 0.01]), key=f"k{dice.randrange(7)}")
        await store.promote()
        await store.recover()


async def work_until(over, store, dice):
    ends = [Complete, lambda lease: Release(lease, 0.01, Hold.KEY), lambda lease: Retry(lease, 0.01, BROKEN)]
    while not over.is_set():
        jobs = await store.claim(ANY, limit=9, worker="w", lease=600)
        await store.settle([dice.choice(ends)(job.lease) for job in jobs])


async def test_moves_by_hand_and_by_time_in_a_crowd_leave_no_key_stuck(own, stores):
    before = deadlocks(own)
    await stores[0].limit("files", Limits(key_concurrency=2, concurrency=30))
    over = asyncio.Event()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number, store in enumerate(stores):
            group.create_task(work_until(over, store, random.Random(number)))
        async with asyncio.TaskGroup() as hands:
            for number, store in enumerate(stores):
                hands.create_task(by_hand(store, random.Random(20 + number)))
            for first in range(0, 300, 5):
                some = range(first, first + 5)
                await stores[0].add([NewJob(f"{n}", "files", "resize", key=f"k{n % 7}") for n in some])
        over.set()

    assert await stores[0].audit() == []
    await stores[0].limit_key("files", "k1", None)
    async with asyncio.timeout(LIMIT):
        while (await figures(stores[0])).keys() - {"completed", "cancelled", "failed"}:
            await stores[0].promote()
            jobs = await stores[0].claim(ANY, limit=50, worker="w", lease=600)
            await stores[0].settle([Complete(job.lease) for job in jobs])
    assert await stores[0].audit() == []
    assert deadlocks(own) == before


async def test_a_key_held_by_a_transaction_of_a_caller_holds_up_no_other(own, stores):
    """Claims, upkeep and other keys go on; what settles a job of that key waits for the commit."""
    store = stores[0]
    await store.limit("files", Limits(key_concurrency=1))
    await store.add([NewJob(f"{key}-{number}", "files", "resize", key=key) for key in "ab" for number in range(2)])
    url = postgres.direct(own.url)
    with psycopg.connect(url) as connection:
        store.add_within([NewJob("a-2", "files", "resize", key="a")], connection)

        jobs = await store.claim(ANY, limit=9, worker="w", lease=600)
        assert [job.id for job in jobs] == ["b-0"]
        await store.settle([Complete(job.lease) for job in jobs])
        assert [job.id for job in await store.claim(ANY, limit=9, worker="w", lease=600)] == ["b-1"]
        await store.promote()
        await store.recover()
        connection.rollback()

    assert [job.id for job in await store.claim(ANY, limit=9, worker="w", lease=600)] == ["a-0"]
    assert await store.get("files", ["a-2"]) == [None]
    assert await store.audit() == []
