"""Deploys on PostgreSQL: releases that meet in one schema, and a migration that is killed half way."""

from __future__ import annotations

import asyncio
import os

import psycopg
import pytest

from muskox.core.errors import StoreUnavailable, StoreUnsupported
from muskox.core.job import NewJob
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.postgres.schema import _FILES
from tests.servers import postgres
from tests.store import deploys
from tests.store.reading import figures

LATEST = max(_FILES)


@pytest.fixture
def clock():
    """The machine's own, since the other processes have no other."""
    return RealWorld()


@pytest.fixture
def url():
    with postgres.schema(postgres.shared_url()) as url:
        yield url


@pytest.fixture
def schema(url):
    return url.rpartition("=")[2]


@pytest.fixture
async def store(url, clock):
    opened = open_store(url, clock)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def db():
    """A way behind the back of the store."""
    async with await psycopg.AsyncConnection.connect(postgres.shared_url(), autocommit=True) as connection:
        yield connection


async def test_fault_v01_a_schema_of_a_later_release_is_refused_and_left_as_it_is(url, store, clock):
    await deploys.is_refused(url, store, clock)


async def test_fault_v01_a_schema_of_this_release_is_taken_over_by_the_next_with_all_its_jobs(url, store):
    await deploys.is_brought_up_to_date(url, store, latest=LATEST)


async def test_fault_v01_tables_that_are_behind_are_left_alone_where_the_url_says_so(url, store, clock, db, schema):
    await db.execute(f"DELETE FROM {schema}.migrations WHERE name = '{LATEST}'")

    strict = open_store(f"{url}&migrate=no", clock)
    with pytest.raises(StoreUnsupported, match=f"lack {LATEST}; run `muskox migrate`"):
        await strict.open()
    await strict.close()

    assert await figures(store) == {}


async def test_fault_v02_a_migration_killed_half_way_or_run_twice_harms_no_worker(url, store, clock, db, schema):
    number = os.getpid()
    await db.execute("SELECT pg_advisory_lock(%s)", (number,))
    waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"

    async def half(process):
        while not (found := await (await db.execute(waiting, (number,))).fetchall()):
            assert process.returncode is None
            await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        # The server learns that it is gone when it would tell it something.
        await db.execute("SELECT pg_advisory_unlock(%s)", (number,))
        alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        while await (await db.execute(alive, found[0])).fetchall():  # noqa: ASYNC110 - the server does it
            await asyncio.sleep(0.01)

    await deploys.killed_half_way(url, store, clock, latest=LATEST, number=number, half=half)

    columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = 'next_one'"
    assert await (await db.execute(columns, (schema,))).fetchall() == [("a",), ("b",)]
    reader = f"SELECT reader FROM {schema}.migrations WHERE name = '9000'"
    assert await (await db.execute(reader)).fetchall() == [(LATEST,)]


async def test_a_migration_that_must_wait_lets_others_go_first_and_says_for_whom(url, store, schema, db, monkeypatch):
    monkeypatch.setitem(_FILES, "9999", "-- readers: 0001\nALTER TABLE muskox.jobs ADD COLUMN extra text")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(postgres.shared_url(), application_name="reader") as reader:
        await reader.execute(f"SELECT FROM {schema}.jobs")

        another = open_store(url, RealWorld())
        migrating = asyncio.create_task(another.migrate())
        async with asyncio.timeout(deploys.LIMIT):
            while await (await db.execute(waiting, (f"%ALTER TABLE {schema}.jobs%",))).fetchone() == (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # Behind the migration, which steps back in time.
        await store.add([NewJob("a", "files", "resize")])
        with pytest.raises(StoreUnavailable, match=r"migration 9999.*\(reader, idle in transaction, since \d+ s\)"):
            await migrating
        await another.close()
        assert await figures(store) == {"waiting": 1}

    assert await store.migrate() == ["9999"]
