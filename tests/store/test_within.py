"""Adding inside the caller's own transaction: the job exists exactly when the caller's rows do."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import msgspec
import pytest
import sqlalchemy
from sqlalchemy.orm import sessionmaker

from muskox.core.errors import OptionError, StoreUnavailable
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete
from muskox.store import open_store
from muskox.store.protocol import Want
from tests.store.reading import events, everything, figures, kinds, one, state

LIMIT = 10


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture(autouse=True)
def only_where_it_can_be(request):
    if "shared" in request.fixturenames and not request.getfixturevalue("shared")[1].traits.within:
        pytest.skip("this store cannot add within the caller's transaction")


@pytest.fixture
def store(shared):
    return shared[1]


@pytest.fixture
def engine(shared):
    made = sqlalchemy.create_engine(shared[0])
    with made.begin() as tx:
        tx.execute(sqlalchemy.text("CREATE TABLE users (name TEXT)"))
    yield made
    made.dispose()


def insert(tx):
    tx.execute(sqlalchemy.text("INSERT INTO users VALUES ('ada')"))


def users(engine):
    with engine.connect() as tx:
        return tx.execute(sqlalchemy.text("SELECT count(*) FROM users")).scalar()


def new(id="a", **fields):
    return NewJob(id, "files", "resize", **fields)


@pytest.fixture(params=["connection", "session"])
def transaction(request, engine):
    """Opens a transaction in which users and jobs are written; committed at its end, rolled back by an exception."""
    if request.param == "connection":
        return engine.begin
    return sessionmaker(engine).begin


async def test_mission_c01_rows_and_jobs_are_committed_together(store, engine, transaction):
    with transaction() as tx:
        insert(tx)
        [added] = store.add_within([new(data="1")], tx)
        assert (added.created, added.job.state) == (True, JobState.WAITING)

    assert (users(engine), await figures(store)) == (1, {"waiting": 1})
    assert await one(store, "a") == added.job
    assert await kinds(store) == ["waiting"]
    assert await store.audit() == []


async def test_fault_p09_rolled_back_the_job_never_existed(store, engine, transaction):
    before = await everything(store)

    with pytest.raises(Rollback), transaction() as tx:  # noqa: PT012 - the block is what is undone
        insert(tx)
        store.add_within([new(), new("b", delay=60)], tx)
        raise Rollback

    assert (users(engine), await everything(store)) == (0, before)
    assert await store.claim([Want("files")], limit=5, worker="w", lease=30) == []
    assert await store.audit() == []


async def test_fault_p09_a_savepoint_that_is_rolled_back_takes_its_job_along(store, transaction):
    with transaction() as tx:
        store.add_within([new("outer")], tx)
        with pytest.raises(Rollback), tx.begin_nested():  # noqa: PT012 - as above
            store.add_within([new("inner")], tx)
            raise Rollback
        store.add_within([new("after")], tx)

    assert await store.get("files", ["inner"]) == [None]
    assert await figures(store) == {"waiting": 2}
    assert [event.job_id for event in await events(store)] == ["outer", "after"]
    assert [event.offset for event in await events(store)] == [1, 2]
    assert await store.audit() == []


async def test_a_job_is_not_seen_before_the_commit(store, transaction):
    with transaction() as tx:
        store.add_within([new()], tx)
        assert await store.get("files", ["a"]) == [None]
        assert await store.events(after=0) == []

    assert await state(store, "a") is JobState.WAITING


async def test_a_known_id_is_answered_with_what_is_there(store, transaction):
    await store.add([new(data="1")])

    with transaction() as tx:
        [again] = store.add_within([new(data="2")], tx)

    assert (again.created, again.job.data_text) == (False, "1")
    assert await figures(store) == {"waiting": 1}


async def test_mission_a14_a_commit_wakes_those_who_wait(store, transaction):
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(store.wait(["files"], seconds=3600))
        reading = group.create_task(store.events(after=0, seconds=3600))
        await asyncio.sleep(0)
        with transaction() as tx:
            store.add_within([new()], tx)

    assert [event.job_id for event in reading.result()] == ["a"]


async def test_what_was_added_within_runs_like_any_other(store, transaction):
    with transaction() as tx:
        store.add_within([new()], tx)

    [job] = await store.claim([Want("files")], limit=5, worker="w", lease=30)
    assert await store.settle([Complete(job.lease, "1")]) == []
    assert await store.audit() == []


async def test_many_jobs_are_added_within(store, transaction):
    with transaction() as tx:
        added = store.add_within([new(str(number), delay=number % 2) for number in range(500)], tx)

    assert [answer.job.id for answer in added] == [str(number) for number in range(500)]
    assert await figures(store) == {"waiting": 250, "delayed": 250}
    assert await store.audit() == []


class Odd:
    """Something that is no connection."""


@pytest.mark.parametrize(
    "given", [None, "sqlite:///x.db", 5, Odd(), object], ids=["none", "text", "number", "odd", "class"]
)
async def test_what_is_no_connection_is_refused(store, given):
    with pytest.raises(OptionError, match="within= takes a"):
        store.add_within([new()], given)


async def test_an_engine_is_refused_since_it_has_no_transaction(store, engine):
    with pytest.raises(OptionError, match="within= takes a"):
        store.add_within([new()], engine)


async def test_a_connection_to_another_database_is_refused(store, tmp_path):
    other = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/other.db")
    with other.begin() as tx, pytest.raises(OptionError, match=r"within= is a connection to .*other\.db, but the jobs"):
        store.add_within([new()], tx)
    other.dispose()


async def test_a_connection_to_a_database_in_memory_is_refused(store):
    with closing(sqlite3.connect(":memory:")) as other, pytest.raises(OptionError, match="a database in memory"):
        store.add_within([new()], other)


# --- the driver's own connections -------------------------------------------------------


@pytest.fixture
def file(store):
    path = store._location.path if hasattr(store, "_location") else None
    if path is None:
        pytest.skip("only for a store in one SQLite file")
    return path


async def test_a_sqlite3_connection_is_taken(store, file):
    with closing(sqlite3.connect(file)) as tx:
        tx.execute("CREATE TABLE users (name TEXT)")
        with tx:
            tx.execute("INSERT INTO users VALUES ('ada')")
            store.add_within([new()], tx)
        assert await figures(store) == {"waiting": 1}

        with pytest.raises(Rollback), tx:  # noqa: PT012 - as above
            tx.execute("INSERT INTO users VALUES ('bob')")
            store.add_within([new("b")], tx)
            raise Rollback
        assert tx.execute("SELECT name FROM users").fetchall() == [("ada",)]

    assert await figures(store) == {"waiting": 1}
    assert await store.audit() == []


async def test_a_sqlite3_connection_may_begin_with_the_job(store, file):
    with closing(sqlite3.connect(file)) as tx:
        store.add_within([new()], tx)
        assert tx.in_transaction
        tx.rollback()

    assert await figures(store) == {}


async def test_an_autocommit_connection_is_taken_inside_a_transaction(store, file):
    with closing(sqlite3.connect(file, isolation_level=None)) as tx:
        tx.execute("BEGIN")
        store.add_within([new()], tx)
        tx.execute("ROLLBACK")

    assert await figures(store) == {}
    assert await store.audit() == []


async def test_an_autocommit_connection_without_a_transaction_is_refused(store, file):
    """Each statement would be committed by itself, and a crash between two of them would leave half a job."""
    with closing(sqlite3.connect(file, isolation_level=None)) as tx, pytest.raises(OptionError, match="no transaction"):
        store.add_within([new()], tx)

    assert await figures(store) == {}


@pytest.mark.parametrize(
    "factory",
    [sqlite3.Row, lambda cursor, row: dict(zip([column[0] for column in cursor.description], row, strict=True))],
    ids=["row", "dict"],
)
async def test_the_callers_row_factory_is_respected_and_kept(store, file, factory):
    await store.add([new("known", data="1")])

    with closing(sqlite3.connect(file)) as tx:
        tx.row_factory = factory
        with tx:
            added = store.add_within([new("known"), new("a")], tx)
        assert tx.row_factory is factory

    assert [answer.created for answer in added] == [False, True]
    assert await store.audit() == []


async def test_a_text_factory_of_the_caller_does_no_harm(store, file):
    await store.add([new("known", data="1")])

    with closing(sqlite3.connect(file)) as tx:
        tx.text_factory = bytes
        with tx:
            added = store.add_within([new("known"), new("a")], tx)
        assert tx.text_factory is bytes

    assert [answer.job.data_text for answer in added] == ["1", "null"]


async def test_a_closed_connection_is_refused(store, file):
    tx = sqlite3.connect(file)
    tx.close()

    with pytest.raises(OptionError, match="closed"):
        store.add_within([new()], tx)


async def test_a_database_that_somebody_else_has_locked_is_said_to_be_unavailable(store, file):
    with closing(sqlite3.connect(file)) as holder, closing(sqlite3.connect(file, timeout=0)) as tx:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.add_within([new()], tx)
        tx.rollback()
        holder.rollback()

    assert await figures(store) == {}


async def test_a_failed_add_leaves_the_callers_transaction_as_it_was(store, file):
    bad = msgspec.structs.replace(new("c"), data=object())
    with closing(sqlite3.connect(file)) as tx:
        tx.execute("CREATE TABLE users (name TEXT)")
        with tx:
            tx.execute("INSERT INTO users VALUES ('ada')")
            with pytest.raises(Exception):  # noqa: B017 - which one is the store's affair
                store.add_within([new("a"), new("b", priority=1), bad], tx)
        assert tx.execute("SELECT name FROM users").fetchall() == [("ada",)]

    assert await figures(store) == {}
    assert await kinds(store) == []
    assert await store.audit() == []


async def test_a_store_in_memory_says_that_it_cannot(clock):
    store = open_store("sqlite://:memory:", clock)
    await store.open()

    assert not store.traits.within
    await store.close()
