"""Flows and batches on PostgreSQL: many connections at once, and the transactions of callers."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest

from muskox.core.errors import FlowClosed, OptionError
from muskox.core.flows import FlowJob, FlowKind, FlowState, NewFlow, OnFailure, Wait
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Fail
from muskox.core.limits import Limits
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Selection, Want
from tests.servers import postgres
from tests.store.flowing import complete, fill, flow, node, record, runs, tally
from tests.store.reading import BROKEN, figures, kinds, state

LIMIT = 60


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture(scope="module")
def own():
    with postgres.server(**postgres.FAST) as made:
        yield made


@pytest.fixture
def place(own):
    with postgres.schema(own.url) as url:
        yield url


@asynccontextmanager
async def opened(url):
    store = open_store(url, RealWorld())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(place):
    async with opened(place) as made:
        yield made


async def waiting_for_a_lock(own, count=1):
    """Return once so many connections wait for a lock of another."""
    said = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with asyncio.timeout(LIMIT):
        while (await asyncio.to_thread(own.execute, said))[0][0] < count:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.01)


# --- at the same moment ----------------------------------------------------------------


async def test_two_parents_that_end_in_two_transactions_at_once_do_not_both_miss_their_child(own, store):
    await flow(store, node("a"), node("b"), node("c", ["a", "b"]))
    claimed = await runs(store)
    with psycopg.connect(own.url) as tx:
        assert store.settle_within([Complete(claimed["a"].lease, "1")], tx) == []
        other = asyncio.create_task(store.settle([Complete(claimed["b"].lease, "2")]))
        await waiting_for_a_lock(own)

    assert await other == []
    assert await state(store, "c") is JobState.WAITING
    assert [parent.result for parent in await store.parents("files", "c")] == [1, 2]
    assert await store.audit() == []


async def test_ends_of_jobs_whose_rows_have_moved_since_the_claim_are_told_too(store):
    await flow(store, node("a"), node("b", ["a"]))
    await fill(store, ["c", "d"], more=False, settled=NewJob("over", "ends", "tell"))
    claimed = await runs(store)
    assert await store.renew([claimed["a"].lease, claimed["c"].lease], lease=60) == []

    await complete(store, *claimed.values())

    assert await state(store, "b") is JobState.WAITING
    assert await tally(store, "batch") == (2, 2, 0, 0)
    assert await figures(store, "ends") == {"waiting": 1}
    assert await store.audit() == []


async def test_the_last_two_of_a_batch_that_end_at_once_add_what_follows_once(own, store):
    await fill(store, ["a", "b"], more=False, settled=NewJob("over", "ends", "tell"))
    claimed = await runs(store)
    with psycopg.connect(own.url) as tx:
        assert store.settle_within([Complete(claimed["a"].lease)], tx) == []
        other = asyncio.create_task(store.settle([Complete(claimed["b"].lease)]))
        await waiting_for_a_lock(own)

    assert await other == []
    assert await figures(store, "ends") == {"waiting": 1}
    assert (await record(store, "batch")).state is FlowState.COMPLETED
    assert await store.audit() == []


async def test_a_job_that_is_added_while_the_last_one_ends_is_waited_for(own, store):
    await fill(store, ["a"], settled=NewJob("over", "ends", "tell"))
    [run] = (await runs(store)).values()
    with psycopg.connect(own.url) as tx:
        store.grow_within(NewFlow("batch", FlowKind.BATCH), [FlowJob(NewJob("b", "files", "mail"))], tx)
        other = asyncio.create_task(store.settle([Complete(run.lease)]))
        await waiting_for_a_lock(own)

    assert await other == []
    assert await figures(store, "ends") == {}
    assert await tally(store, "batch") == (2, 1, 0, 0)
    await complete(store, *(await runs(store)).values())
    assert await figures(store, "ends") == {"waiting": 1}


async def test_many_that_fill_one_batch_at_once_make_one(place):
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(place)) for _ in range(4)]
        pieces = [[f"{n}.{m}" for m in range(25)] for n in range(8)]
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(fill(one, piece) for one in stores for piece in pieces))
        await stores[0].close_flow("batch")

        assert await tally(stores[0], "batch") == (200, 0, 0, 0)
        assert await stores[0].audit() == []


async def test_a_batch_that_many_workers_drain_at_once_ends_exactly_once(place):
    jobs = 600
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(place)) for _ in range(4)]
        for first in range(0, jobs, 100):
            await fill(
                stores[0], [str(n) for n in range(first, first + 100)], more=first + 100 < jobs,
                completed=NewJob("done", "ends", "tell"), settled=NewJob("over", "ends", "tell"),
            )  # fmt: skip

        async def work(one):
            while claimed := await one.claim([Want("files")], limit=7, worker="w", lease=30):
                done = [Complete(job.lease) for job in claimed]
                await asyncio.gather(one.settle(done[:3]), one.settle(done[3:]))

        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(work(one) for one in stores for _ in range(2)))

        assert await tally(stores[0], "batch") == (jobs, jobs, 0, 0)
        for follower in ("done", "over"):
            assert await kinds(stores[0], follower) == ["waiting"]
        assert await stores[0].audit() == []


QUEUES = ["files", "other"]


def crossing(number):
    """A flow whose jobs share keys with those of others: four parents, and four children of three of them each."""
    on_failure = [OnFailure.FAIL, OnFailure.IGNORE]
    jobs = [node(f"{number}.p{n}", queue=QUEUES[n % 2], key=f"k{(number + n) % 3}") for n in range(4)]
    for n in range(4):
        parents = [Wait(QUEUES[m % 2], f"{number}.p{m}", f"p{m}", on_failure[n % 2]) for m in range(4) if m != n]
        jobs.append(node(f"{number}.c{n}", parents, queue=QUEUES[(n + 1) % 2], key=f"k{n % 3}"))
    return jobs


async def work(store, dice, turns):
    for _ in range(turns):
        claimed = await store.claim([Want(queue) for queue in QUEUES], limit=5, worker="w", lease=600)
        await store.settle(
            [Fail(job.lease, BROKEN) if dice.random() < 0.2 else Complete(job.lease, "1") for job in claimed]
        )


async def meddle(store, dice, flows, turns):
    for _ in range(turns):
        number = dice.randrange(flows)
        match dice.randrange(4):
            case 0:
                await store.cancel_flow(f"flow-{number}")
            case 1:
                await store.retry_flow(f"flow-{number}")
            case 2:
                await store.cancel(Selection(dice.choice(QUEUES), ids=tuple(f"{number}.c{n}" for n in range(4))))
            case _:
                await store.retry(Selection(dice.choice(QUEUES), ids=tuple(f"{number}.p{n}" for n in range(4))))


async def test_crossing_flows_that_are_changed_by_hand_meanwhile_all_come_to_an_end(place):
    flows, dice = 12, random.Random(3)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(place)) for _ in range(3)]
        for queue in QUEUES:
            await stores[0].limit(queue, Limits(key_concurrency=2))

        async def add(store, numbers):
            for number in numbers:
                await store.grow(NewFlow(f"flow-{number}"), crossing(number))

        async with asyncio.timeout(LIMIT):
            await asyncio.gather(
                *(add(store, range(first, flows, 3)) for first, store in enumerate(stores)),
                *(work(store, dice, 20) for store in stores),
                *(meddle(store, dice, flows, 15) for store in stores[1:]),
            )
            assert await stores[0].audit() == []
            while claimed := await stores[0].claim([Want(queue) for queue in QUEUES], limit=50, worker="w", lease=60):
                await stores[0].settle([Complete(job.lease) for job in claimed])

        found = await stores[0].flows()
        assert [(one.total, one.unended) for one in found.flows] == [(8, 0)] * flows
        assert await stores[0].audit() == []


# --- inside of the transaction of a caller -----------------------------------------------


async def test_a_flow_that_is_rolled_back_never_was(own, store):
    new = NewFlow("flow", settled=NewJob("over", "ends", "tell"))
    with pytest.raises(Rollback), psycopg.connect(own.url) as tx:  # noqa: PT012 - the block is what is undone
        added = store.grow_within(new, [node("a"), node("b", ["a"])], tx)
        assert [one.job.state for one in added] == [JobState.WAITING, JobState.BLOCKED]
        raise Rollback
    assert (await store.flows()).flows == []
    assert await figures(store) == {}

    async with await psycopg.AsyncConnection.connect(own.url) as tx:
        await store.grow(new, [node("a"), node("b", ["a"])], within=tx)
        assert (await store.flows()).flows == []
    assert await figures(store) == {"waiting": 1, "blocked": 1}
    assert await store.audit() == []


async def test_a_transaction_goes_on_after_a_flow_was_refused(own, store):
    await flow(store, node("a"))
    with psycopg.connect(own.url) as tx:
        with pytest.raises(FlowClosed):
            store.grow_within(NewFlow("flow"), [node("b")], tx)
        with pytest.raises(OptionError, match="which is not in"):
            store.grow_within(NewFlow("other"), [node("c", ["nobody"])], tx)
        [again] = store.grow_within(NewFlow("flow"), [node("a")], tx)
        store.add_within([NewJob("plain", "files", "resize")], tx)

    assert not again.created
    assert [job.id for job in (await store.find(Selection("files"))).jobs] == ["a", "plain"]
    assert [one.id for one in (await store.flows()).flows] == ["flow"]
    assert await store.audit() == []
