"""Adding inside the transaction of an asynchronous caller: the job exists exactly when the caller's rows do."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

from muskox.core.errors import OptionError
from muskox.core.job import JobState, NewJob
from tests import engines
from tests.store.reading import events, everything, figures, one

LIMIT = 10


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture(autouse=True)
def only_where_it_can_be(shared):
    if not shared[1].traits.within:
        pytest.skip("this store cannot add within the caller's transaction")


@pytest.fixture
def store(shared):
    return shared[1]


@pytest.fixture
async def engine(shared):
    made = engines.async_engine(shared[0])
    async with made.begin() as tx:
        await tx.execute(sqlalchemy.text("CREATE TABLE users (name TEXT)"))
    yield made
    await made.dispose()


def insert(tx):
    return tx.execute(sqlalchemy.text("INSERT INTO users VALUES ('ada')"))


async def users(engine):
    async with engine.connect() as tx:
        return (await tx.execute(sqlalchemy.text("SELECT count(*) FROM users"))).scalar()


def new(id="a", **fields):
    return NewJob(id, "files", "resize", **fields)


@pytest.fixture(params=["connection", "session"])
def transaction(request, engine):
    """Opens a transaction in which users and jobs are written; committed at its end, rolled back by an exception."""
    if request.param == "connection":
        return engine.begin
    return async_sessionmaker(engine).begin


async def test_rows_and_jobs_are_committed_together(store, engine, transaction):
    async with transaction() as tx:
        await insert(tx)
        [added] = await store.add([new(data="1")], within=tx)
        assert (added.created, added.job.state) == (True, JobState.WAITING)
        assert await store.get("files", ["a"]) == [None]

    assert (await users(engine), await figures(store)) == (1, {"waiting": 1})
    assert await one(store, "a") == added.job
    assert await store.audit() == []


async def test_rolled_back_the_job_never_existed(store, engine, transaction):
    before = await everything(store)

    with pytest.raises(Rollback):  # noqa: PT012 - the block is what is undone
        async with transaction() as tx:
            await insert(tx)
            await store.add([new(), new("b", delay=60)], within=tx)
            raise Rollback

    assert (await users(engine), await everything(store)) == (0, before)
    assert await store.audit() == []


async def test_a_savepoint_that_is_rolled_back_takes_its_job_along(store, transaction):
    async with transaction() as tx:
        await store.add([new("outer")], within=tx)
        with pytest.raises(Rollback):  # noqa: PT012 - as above
            async with tx.begin_nested():
                await store.add([new("inner")], within=tx)
                raise Rollback
        await store.add([new("after")], within=tx)

    assert await store.get("files", ["inner"]) == [None]
    assert [event.job_id for event in await events(store)] == ["outer", "after"]
    assert await store.audit() == []


async def test_a_known_id_is_answered_with_what_is_there(store, transaction):
    await store.add([new(data="1")])

    async with transaction() as tx:
        [again] = await store.add([new(data="2")], within=tx)

    assert (again.created, again.job.data_text) == (False, "1")


async def test_a_commit_wakes_those_who_wait(store, transaction):
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(store.wait(["files"], seconds=3600))
        reading = group.create_task(store.events(after=0, seconds=3600))
        await asyncio.sleep(0)
        async with transaction() as tx:
            await store.add([new()], within=tx)

    assert [event.job_id for event in reading.result()] == ["a"]


async def test_many_jobs_are_added_within(store, transaction):
    async with transaction() as tx:
        added = await store.add([new(str(number), delay=number % 2) for number in range(500)], within=tx)

    assert [answer.job.id for answer in added] == [str(number) for number in range(500)]
    assert await figures(store) == {"waiting": 250, "delayed": 250}


async def test_a_transaction_that_begins_with_the_job_is_the_callers_to_commit(store, engine):
    async with engine.connect() as tx:
        await store.add([new("rolled-back")], within=tx)
        await tx.rollback()
        await store.add([new("committed")], within=tx)
        await tx.commit()
        await store.add([new("left")], within=tx)

    assert await figures(store) == {"waiting": 1}
    assert (await one(store, "committed")).state is JobState.WAITING


async def test_a_session_that_is_scoped_to_a_task_is_taken(store, engine):
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    await store.add([new()], within=session)
    await session.commit()
    await session.remove()

    assert await figures(store) == {"waiting": 1}


async def test_blocking_code_is_refused_an_asynchronous_connection_or_session(store, engine):
    async with engine.begin() as tx, AsyncSession(engine) as session:
        for given in (tx, session):
            with pytest.raises(OptionError, match="give it to the async verb"):
                store.add_within([new()], given)


async def test_the_blocking_side_of_an_asynchronous_session_is_refused(store, engine):
    """What `run_sync` hands to a function: its verbs wait in a way of SQLAlchemy's that we cannot share."""
    async with AsyncSession(engine) as session:
        with pytest.raises(OptionError, match="give it to the async verb"):
            await session.run_sync(lambda blocking: store.add_within([new()], blocking))
        with pytest.raises(OptionError, match="give it to the async verb"):
            await session.run_sync(lambda blocking: store.add_within([new()], blocking.connection()))

    assert await figures(store) == {}


async def test_a_connection_that_is_closed_or_not_yet_open_is_refused(store, engine):
    tx = engine.connect()
    with pytest.raises(OptionError, match="closed or not opened"):
        await store.add([new()], within=tx)
    await tx.start()
    await tx.close()
    with pytest.raises(OptionError, match="closed or not opened"):
        await store.add([new()], within=tx)


async def test_an_asynchronous_engine_is_refused_since_it_has_no_transaction(store, engine):
    with pytest.raises(OptionError, match="within= takes a"):
        await store.add([new()], within=engine)


async def test_a_session_on_another_kind_of_database_is_refused(store):
    """Of a database in memory, since no store can share one."""
    other = engines.async_engine("sqlite:///:memory:")
    async with AsyncSession(other) as session:
        with pytest.raises(OptionError, match="within= "):
            await store.add([new()], within=session)
    await other.dispose()


async def test_a_failed_add_leaves_the_callers_transaction_as_it_was(store, engine, transaction):
    async with transaction() as tx:
        await insert(tx)
        with pytest.raises(Exception):  # noqa: B017 - which one is the store's affair
            await store.add([new("a"), new("b", priority=1), None], within=tx)

    assert (await users(engine), await figures(store)) == (1, {})
    assert await store.audit() == []
