"""Adding inside the caller's own transaction: what is particular to connections on SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import aiosqlite
import msgspec
import pytest
import sqlalchemy

from muskox.core.errors import OptionError, StoreUnavailable
from muskox.core.job import NewJob
from muskox.store import open_store
from tests.store.reading import figures, kinds


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(file, clock):
    opened = open_store(f"sqlite:///{file}", clock)
    await opened.open()
    yield opened
    await opened.close()


def new(id="a", **fields):
    return NewJob(id, "files", "resize", **fields)


async def test_a_connection_to_another_database_is_refused(store, tmp_path):
    other = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/other.db")
    with other.begin() as tx, pytest.raises(OptionError, match=r"within= is a connection to .*other\.db, but the jobs"):
        store.add_within([new()], tx)
    other.dispose()


async def test_a_connection_to_a_database_in_memory_is_refused(store):
    with closing(sqlite3.connect(":memory:")) as other, pytest.raises(OptionError, match="a database in memory"):
        store.add_within([new()], other)


async def test_a_sqlite3_connection_is_taken(store, file):
    with closing(sqlite3.connect(file)) as tx:
        tx.execute("CREATE TABLE users (name TEXT)")
        with tx:
            tx.execute("INSERT INTO users VALUES ('ada')")
            store.add_within([new()], tx)
        assert await figures(store) == {"waiting": 1}

        with pytest.raises(Rollback), tx:  # noqa: PT012 - the block is what is undone
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


async def test_an_aiosqlite_connection_is_taken(store, file):
    async with aiosqlite.connect(file) as tx:
        await tx.execute("CREATE TABLE users (name TEXT)")
        await tx.execute("INSERT INTO users VALUES ('ada')")
        [added] = await store.add([new(data="1")], within=tx)
        assert await store.get("files", ["a"]) == [None]
        await tx.commit()
        assert await store.get("files", ["a"]) == [added.job]

        await store.add([new("b")], within=tx)
        await tx.rollback()

    assert await figures(store) == {"waiting": 1}
    assert await store.audit() == []


async def test_a_closed_aiosqlite_connection_is_refused(store, file):
    async with aiosqlite.connect(file) as tx:
        pass

    with pytest.raises(OptionError, match="closed"):
        await store.add([new()], within=tx)


async def test_an_aiosqlite_connection_that_somebody_else_keeps_from_writing_is_unavailable(store, file):
    async with aiosqlite.connect(file, timeout=0) as tx:
        with closing(sqlite3.connect(file)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.add([new()], within=tx)


async def test_an_aiosqlite_connection_to_another_database_is_refused(store, tmp_path):
    async with aiosqlite.connect(tmp_path / "other.db") as tx:
        with pytest.raises(OptionError, match=r"other\.db, but the jobs"):
            await store.add([new()], within=tx)
