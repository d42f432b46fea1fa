"""Deploys on SQLite: releases that meet on one file, and a migration that is killed half way."""

from __future__ import annotations

import sqlite3

import pytest

from muskox.core.errors import StoreUnsupported
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.sql import migrations
from tests.processes import until
from tests.store import deploys

LATEST = migrations("muskox.store.sqlite")[-1].name


@pytest.fixture
def clock():
    """The machine's own, since the other processes have no other."""
    return RealWorld()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
async def store(url, clock):
    opened = open_store(url, clock)
    await opened.open()
    yield opened
    await opened.close()


async def test_fault_v01_a_file_of_a_later_release_is_refused_and_left_as_it_is(url, store, clock):
    await deploys.is_refused(url, store, clock)


async def test_fault_v01_a_file_of_this_release_is_taken_over_by_the_next_with_all_its_jobs(url, store):
    await deploys.is_brought_up_to_date(url, store, latest=LATEST)


async def test_fault_v01_a_migration_that_says_nothing_of_its_readers_is_for_those_who_know_it(url, store, clock):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute("INSERT INTO muskox_migrations (name) VALUES ('9000')")
    db.close()

    with pytest.raises(StoreUnsupported, match="migration 9000"):
        await open_store(url, clock).open()


async def test_fault_v02_a_migration_killed_half_way_or_run_twice_harms_no_worker(url, store, clock):
    async def half(process):
        await until(process, "half")
        process.kill()
        await process.wait()

    await deploys.killed_half_way(url, store, clock, latest=LATEST, number=1, half=half)

    db = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert [name for _, name, *_ in db.execute("PRAGMA table_info(next_one)")] == ["a", "b"]
    assert db.execute("SELECT reader FROM muskox_migrations WHERE name = '9000'").fetchall() == [(LATEST,)]
    db.close()
