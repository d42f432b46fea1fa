"""Settling inside the caller's own transaction: the job has ended exactly when the caller's rows are there."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import sqlalchemy

from muskox import ActiveJob, Fixed, Muskox, SyncActiveJob
from muskox.core.errors import LeaseLost, OptionError
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Retry
from muskox.store.protocol import Selection, Want
from muskox.testing import run_jobs
from tests import engines
from tests.store.reading import BROKEN, figures, kinds, one, state


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture
def store(shared):
    return shared[1]


@pytest.fixture
def engine(shared):
    if not shared[1].traits.within:
        pytest.skip("this store has no part in the caller's transaction")
    made = engines.engine(shared[0])
    with made.begin() as tx:
        tx.execute(sqlalchemy.text("CREATE TABLE users (name TEXT)"))
    yield made
    made.dispose()


@asynccontextmanager
async def later(shared):
    made = engines.async_engine(shared[0])
    try:
        async with made.begin() as tx:
            yield tx
    finally:
        await made.dispose()


INSERT = sqlalchemy.text("INSERT INTO users VALUES ('ada')")


def users(engine):
    with engine.connect() as tx:
        return tx.execute(sqlalchemy.text("SELECT count(*) FROM users")).scalar()


async def claimed(store, id="a"):
    await store.add([NewJob(id, "files", "resize")])
    [job] = await store.claim([Want("files")], limit=1, worker="w", lease=3600)
    return job


async def test_rows_and_completion_are_committed_together(store, engine):
    job = await claimed(store)

    with engine.begin() as tx:
        tx.execute(INSERT)
        assert store.settle_within([Complete(job.lease, "5")], tx) == []
        assert await state(store, "a") is JobState.ACTIVE

    assert (users(engine), (await one(store, "a")).result) == (1, 5)
    assert "completed" in await kinds(store)
    # Said again, as a worker does that cannot know, it changes nothing and loses nothing.
    assert await store.settle([Complete(job.lease, "5")]) == []
    assert await store.audit() == []


async def test_rolled_back_the_job_is_as_active_as_before(store, engine):
    job = await claimed(store)

    with pytest.raises(Rollback), engine.begin() as tx:  # noqa: PT012 - the block is what is undone
        tx.execute(INSERT)
        store.settle_within([Complete(job.lease)], tx)
        raise Rollback

    assert (users(engine), await figures(store)) == (0, {"active": 1})
    assert await store.settle([Retry(job.lease, 0, BROKEN)]) == []
    assert await store.audit() == []


async def test_a_lost_lease_is_told_and_writes_nothing(store, engine):
    job = await claimed(store)
    await store.cancel(Selection("files", ids=("a",)))

    with engine.begin() as tx:
        assert store.settle_within([Complete(job.lease)], tx) == [job.lease]

    assert await state(store, "a") is JobState.CANCELLED
    assert await store.audit() == []


async def test_an_asynchronous_caller_settles_too(shared, store, engine):
    job = await claimed(store)

    async with later(shared) as tx:
        await tx.execute(INSERT)
        assert await store.settle([Complete(job.lease, "5")], within=tx) == []

    assert (users(engine), await state(store, "a")) == (1, JobState.COMPLETED)
    assert await store.audit() == []


async def test_stores_without_transactions_and_what_is_no_connection_are_refused(shared, store):
    job = await claimed(store)

    with pytest.raises(OptionError, match="within"):
        store.settle_within([Complete(job.lease)], object())
    with pytest.raises(OptionError, match="within"):
        await store.settle([Complete(job.lease)], within=object())
    assert await state(store, "a") is JobState.ACTIVE


# --- from a processor ---------------------------------------------------------------------


async def test_a_processor_completes_its_job_with_its_rows(shared, store, engine):
    async with Muskox(shared[0]) as ox:
        files = ox.queue("files")

        @files.processor("plain", attempts=2, backoff=Fixed(0))
        def plain(job: SyncActiveJob) -> str:
            with engine.begin() as tx:
                tx.execute(INSERT)
                job.complete({"by": job.attempt}, within=tx)
                if job.attempt == 1:
                    raise Rollback
            return "dropped"

        @files.processor("later")
        async def async_one(job: ActiveJob) -> None:
            async with later(shared) as tx:
                await tx.execute(INSERT)
                await job.complete("done", within=tx)

        await files.add("plain")
        await files.add("later")
        ended = await run_jobs(ox)

    assert [(job.name, job.state.value, job.result) for job in ended] == [
        ("plain", "completed", {"by": 2}), ("later", "completed", "done"),
    ] or [(job.name, job.result) for job in ended] == [("later", "done"), ("plain", {"by": 2})]  # fmt: skip
    assert users(engine) == 2


async def test_a_run_that_lost_its_job_is_rolled_back(shared, store, engine):
    async with Muskox(shared[0]) as ox:
        files = ox.queue("files")

        @files.processor("late")
        async def late(job: ActiveJob) -> None:
            await files.cancel(job.id)
            with pytest.raises(LeaseLost):  # noqa: PT012 - the block is what is undone
                async with later(shared) as tx:
                    await tx.execute(INSERT)
                    await job.complete(within=tx)

        job = await files.add("late")
        await run_jobs(ox)

        assert (await files.get(job.id)).state is JobState.CANCELLED
    assert users(engine) == 0


async def test_without_a_connection_it_says_what_to_do(shared):
    async with Muskox(shared[0]) as ox:
        files = ox.queue("files")

        @files.processor("bare")
        async def bare(job: ActiveJob) -> None:
            await job.complete(5, within=None)

        await files.add("bare")
        [job] = await run_jobs(ox)

    assert "return the result" in job.failure.message
