"""Adding inside the caller's own transaction: what is particular to connections on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest
from psycopg.rows import dict_row

from muskox.core.errors import OptionError, StoreError, StoreUnavailable
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete
from muskox.store import open_store
from muskox.store.protocol import Want
from tests.servers import postgres
from tests.store.reading import events, everything, figures, kinds, state
from tests.stores import STORES

LIMIT = 10


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture
async def opened(tmp_path, clock):
    async with STORES["postgres"](tmp_path, clock) as found:
        yield found


@pytest.fixture
def store(opened):
    return opened[1]


@pytest.fixture
def url():
    return postgres.shared_url()


def new(id="a", **fields):
    return NewJob(id, "files", "resize", **fields)


async def test_a_psycopg_connection_is_taken(store, url):
    with psycopg.connect(url) as tx:
        [added] = store.add_within([new()], tx)
        assert await store.get("files", ["a"]) == [None]
    assert (added.created, await state(store, "a")) == (True, JobState.WAITING)

    with pytest.raises(Rollback), psycopg.connect(url) as tx:  # noqa: PT012 - the block is what is undone
        store.add_within([new("b")], tx)
        raise Rollback
    assert await figures(store) == {"waiting": 1}
    assert await store.audit() == []


async def test_a_psycopg_connection_may_begin_with_the_job(store, url):
    with psycopg.connect(url) as tx:
        store.add_within([new()], tx)
        assert tx.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        tx.rollback()

    assert await figures(store) == {}


async def test_an_asynchronous_psycopg_connection_is_taken(store, url):
    async with await psycopg.AsyncConnection.connect(url) as tx:
        await store.add([new()], within=tx)
        await tx.rollback()
        [added] = await store.add([new("b")], within=tx)
        assert await store.get("files", ["b"]) == [None]

    assert added.created
    assert await figures(store) == {"waiting": 1}
    with pytest.raises(OptionError, match="give it to the async verb"):
        store.add_within([new("c")], tx)


async def test_a_blocking_connection_is_taken_by_the_asynchronous_verb(store, url):
    with psycopg.connect(url) as tx:
        await store.add([new()], within=tx)

    assert await figures(store) == {"waiting": 1}


async def test_an_autocommit_connection_is_taken_inside_a_transaction_only(store, url):
    with psycopg.connect(url, autocommit=True) as tx:
        with pytest.raises(OptionError, match="no transaction"):
            store.add_within([new()], tx)
        with tx.transaction():
            store.add_within([new("b")], tx)

    assert await store.get("files", ["a"]) == [None]
    assert await state(store, "b") is JobState.WAITING


async def test_a_closed_connection_and_a_failed_transaction_are_refused(store, url):
    with psycopg.connect(url) as tx:
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            tx.execute("SELECT 1 / 0")
        with pytest.raises(OptionError, match="has failed; roll it back"):
            store.add_within([new()], tx)
        tx.rollback()
        store.add_within([new()], tx)

    with pytest.raises(OptionError, match="closed"):
        store.add_within([new()], tx)


async def test_the_callers_row_factory_is_respected_and_kept(store, url):
    await store.add([new("known", data="1")])

    with psycopg.connect(url, row_factory=dict_row) as tx:
        added = store.add_within([new("known"), new("a")], tx)
        assert tx.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]

    assert [(answer.created, answer.job.data_text) for answer in added] == [(False, "1"), (True, "null")]
    assert await kinds(store) == ["waiting", "waiting"]


async def test_a_failed_add_leaves_the_callers_transaction_as_it_was(store, opened, url):
    schema = opened[0].partition("schema=")[2]
    before = await everything(store)
    with psycopg.connect(url) as connection:
        connection.execute(f"ALTER TABLE {schema}.jobs ADD CHECK (id <> 'b')")
    with psycopg.connect(url) as tx:
        tx.execute(f"CREATE TABLE {schema}.users (name text)")
        tx.execute(f"INSERT INTO {schema}.users VALUES ('ada')")
        with pytest.raises(StoreError, match="violates check constraint"):
            store.add_within([new("a"), new("b")], tx)
        assert tx.execute(f"SELECT count(*) FROM {schema}.users").fetchall() == [(1,)]

    assert await everything(store) == before
    assert await store.audit() == []
    with psycopg.connect(url) as connection:  # others use these tables after us
        connection.execute(f"ALTER TABLE {schema}.jobs DROP CONSTRAINT jobs_id_check")


async def test_a_connection_to_another_database_is_refused(store, url):
    with psycopg.connect(url, autocommit=True) as connection:
        name = f"other_{store._location.schema}"
        connection.execute(f"CREATE DATABASE {name}")
        try:
            with psycopg.connect(url, dbname=name) as tx:
                with pytest.raises(OptionError, match="within= is a connection to a database without schema"):
                    store.add_within([new()], tx)
                assert tx.execute("SELECT 1").fetchall() == [(1,)]
        finally:
            connection.execute(f"DROP DATABASE {name}")


async def test_a_connection_to_another_store_of_the_same_name_is_refused(store, url):
    """A copy on another server looks alike; its identity tells it."""
    with psycopg.connect(url) as tx:
        store.add_within([new()], tx)
        tx.commit()
        tx.execute(f"UPDATE {store._location.schema}.meta SET id = gen_random_uuid()")
        with pytest.raises(OptionError, match="within= is a connection to another database"):
            store.add_within([new("b")], tx)
        tx.rollback()

    assert await figures(store) == {"waiting": 1}


async def test_the_first_verb_of_a_program_may_be_within_a_transaction(url, clock):
    """Nothing is open and there are no tables yet; those are made beside the caller's transaction."""
    with postgres.schema(url) as place:
        store = open_store(place, clock)
        with psycopg.connect(url) as tx:
            tx.execute("SELECT 1")
            store.add_within([new()], tx)

        await store.open()
        assert await figures(store) == {"waiting": 1}
        await store.close()


# --- a transaction that lasts -------------------------------------------------------------


async def test_an_open_transaction_that_has_added_holds_up_nobody(store, url):
    """The lane is new, so that even its making must not be a lock."""
    async with asyncio.timeout(LIMIT):
        with psycopg.connect(url) as tx:
            store.add_within([new("held")], tx)
            with psycopg.connect(url) as another:
                store.add_within([new("second")], another)
            await store.add([new("third"), new("late", delay=1)])
            jobs = await store.claim([Want("files")], limit=5, worker="w", lease=30)
            assert await store.settle([Complete(job.lease) for job in jobs]) == []
            await store.promote()
            await store.clear({})
            assert {job.id for job in jobs} == {"second", "third"}
            assert await figures(store) == {"completed": 2, "delayed": 1}
            seen = await events(store)

    told = await events(store, after=seen[-1].offset)
    assert [(event.kind, event.job_id) for event in told] == [("waiting", "held")]
    assert [event.offset for event in await events(store)] == list(range(1, len(seen) + 2))
    assert await figures(store) == {"completed": 2, "delayed": 1, "waiting": 1}
    assert await store.audit() == []


async def test_fault_p09_a_connection_that_dies_before_the_commit_leaves_no_job(store, url):
    before = await everything(store)
    tx = psycopg.connect(url)
    store.add_within([new()], tx)
    with psycopg.connect(url, autocommit=True) as killer:
        killer.execute("SELECT pg_terminate_backend(%s, 5000)", (tx.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        tx.commit()
    tx.close()

    assert await everything(store) == before
    assert await store.audit() == []


# --- isolation ----------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_fault_p10_a_new_id_is_added_at_every_level(store, url, level):
    with psycopg.connect(url) as tx:
        tx.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        tx.execute("SELECT 1")
        await store.add([NewJob("x", "other", "new lane")])
        added = store.add_within([new("a"), NewJob("y", "other", "new lane")], tx)

    assert [answer.created for answer in added] == [True, True]
    assert await store.audit() == []


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_fault_p10_an_id_added_behind_the_snapshot_is_never_doubled(store, url, level):
    """The caller's snapshot cannot see it: either it is answered with what is there, or the caller must repeat."""
    with psycopg.connect(url) as tx:
        tx.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        tx.execute("SELECT count(*) FROM pg_class")
        await store.add([new(data="1")])
        if level == "READ COMMITTED":
            [answer] = store.add_within([new(data="2")], tx)
            assert (answer.created, answer.job.data_text) == (False, "1")
        else:
            with pytest.raises(StoreUnavailable, match="40001"):
                store.add_within([new(data="2")], tx)

    assert await figures(store) == {"waiting": 1}
    assert await kinds(store) == ["waiting"]
    assert await store.audit() == []


async def test_fault_p10_two_transactions_with_one_id_make_one_job(store, url):
    def add(data):
        with psycopg.connect(url) as tx:
            [answer] = store.add_within([new(data=data)], tx)
            return answer

    async with asyncio.timeout(LIMIT):
        answers = await asyncio.gather(*(asyncio.to_thread(add, str(number)) for number in range(8)))

    assert sum(answer.created for answer in answers) == 1
    assert len({answer.job.data_text for answer in answers}) == 1
    assert await figures(store) == {"waiting": 1}
