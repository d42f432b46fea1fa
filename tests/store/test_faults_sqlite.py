"""Faults of a database in one file, staged on real files: each a typed error in time, and nothing lost."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from muskox.core.errors import (
    OptionError,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreUnsupported,
)
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Want
from muskox.store.sqlite import database
from muskox.testing import FakeWorld
from tests.processes import finished, started, until
from tests.store.reading import figures, one, state

PROGRAM = "tests.store.process_sqlite"
LIMIT = 60


def new(id="a", data="null"):
    return NewJob(id, "files", "resize", data=data)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(file):
    """A store on a file, with the machine's clock and little patience."""
    opened = open_store(f"sqlite:///{file}?patience=0.4", RealWorld())
    await opened.open()
    yield opened
    await opened.close()


async def refused(url, error, match, world=None):
    """Opening must fail with this error; and closing afterwards must be possible."""
    store = open_store(url, world or FakeWorld())
    with pytest.raises(error, match=match):
        await store.open()
    await store.close()


# --- the address ------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mysql://localhost/x", "", "jobs.db", "http://x", ":memory:"])
def test_a_url_of_no_store_is_refused_with_the_known_ones(url):
    with pytest.raises(StoreUnsupported, match=r"use one of .*sqlite:"):
        open_store(url, FakeWorld())


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://jobs.db", "names no file; use sqlite:///file.db"),
        ("sqlite:///jobs.db?durable=yes", "unknown option 'durable'; known are durability, patience"),
        ("sqlite:///jobs.db?durability=replicated", "durability 'replicated' is not to be had from SQLite"),
        ("sqlite:///jobs.db?patience=long", "patience must be between 0 and 3600 seconds, not 'long'"),
        ("sqlite:///jobs.db?patience=-1", "patience must be between"),
        ("sqlite:///jobs.db?patience=nan", "patience must be between"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_a_remedy(url, match):
    with pytest.raises(OptionError, match=match):
        open_store(url, FakeWorld())


async def test_a_folder_that_is_not_there_is_named(tmp_path):
    await refused(
        f"sqlite:///{tmp_path}/nowhere/jobs.db", StoreUnavailable, "there is no folder .*nowhere.*make it first"
    )


async def test_a_folder_is_no_database(tmp_path):
    await refused(f"sqlite:///{tmp_path}", StoreError, str(tmp_path))


# --- what is in the file ----------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"not a database at all, but text\n" * 100, b"\x00" * 8192 + b"x", b"SQLite format 3\x00" + b"\xff" * 5000],
)
async def test_fault_l08_a_file_that_is_no_database_is_refused_and_left_alone(file, content):
    file.write_bytes(content)

    await refused(f"sqlite:///{file}", StoreCorrupt, "is not a SQLite database|is damaged")

    assert file.read_bytes() == content


async def test_fault_v04_a_database_of_a_newer_release_is_refused(file, store):
    await store.close()
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("INSERT INTO muskox_migrations (name) VALUES ('9999')")

    await refused(f"sqlite:///{file}", StoreUnsupported, "does not know; upgrade Muskox")


async def test_another_applications_tables_are_left_alone(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE jobs (id TEXT)")
        db.execute("INSERT INTO jobs VALUES ('mine')")

    store = open_store(f"sqlite:///{file}", FakeWorld())
    await store.open()
    await store.add([new()])
    await store.close()

    with closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT id FROM jobs").fetchall() == [("mine",)]


@pytest.mark.parametrize(
    "damage",
    [
        "options = '{\"attempts\":'", "options = 'null'", "options = '{\"backoff\":{\"type\":\"later\"}}'",
        "data = '{\"cut'", "failure = '{'", "progress = '['", "options = CAST(x'7bff' AS TEXT)",
        "data = CAST(x'22ff22' AS TEXT)",
    ],
)  # fmt: skip
async def test_fault_d07_a_damaged_job_does_not_stop_the_queue(file, store, damage):
    await store.add([new("a"), new("bad"), new("c")])
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE muskox_jobs SET {damage} WHERE id = 'bad'")

    claimed = await store.claim([Want("files")], limit=3, worker="w", lease=30)
    assert await store.settle([Complete(job.lease) for job in claimed]) == []

    assert {"a", "c"} <= {job.id for job in claimed}
    assert [await state(store, id) for id in ("a", "c")] == [JobState.COMPLETED] * 2
    assert len(await store.get("files", ["a", "bad", "c"])) == 3


# --- locks and processes ----------------------------------------------------------------


async def test_locked_for_long_is_unavailable_within_the_patience_and_then_works_again(file, store):
    world = RealWorld()
    async with asyncio.timeout(LIMIT), started(PROGRAM, "lock", f"sqlite:///{file}") as holder:
        await until(holder, "locked")
        begun = world.monotonic()
        with pytest.raises(StoreUnavailable, match=r"locked by another process for 0\.4 seconds; end the transaction"):
            await store.add([new()])
        assert world.monotonic() - begun < 5
        assert await store.get("files", ["a"]) == [None]
        holder.kill()
        await holder.wait()
        await store.add([new()])

    assert await figures(store) == {"waiting": 1}


async def test_a_lock_that_ends_in_time_is_waited_for(file):
    store = open_store(f"sqlite:///{file}", RealWorld())
    await store.open()
    async with asyncio.timeout(LIMIT), started(PROGRAM, "lock", f"sqlite:///{file}") as holder:
        await until(holder, "locked")
        adding = asyncio.create_task(store.add([new()]))
        await asyncio.sleep(0)
        holder.stdin.write(b"let go\n")
        [added] = await adding

    assert added.created
    await store.close()


async def test_patience_is_real_time_also_where_the_clock_stands_still(file):
    store = open_store(f"sqlite:///{file}?patience=0.2", FakeWorld())
    await store.open()
    with closing(sqlite3.connect(file)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(LIMIT):
            with pytest.raises(StoreUnavailable):
                await store.add([new()])
    await store.close()


async def test_fault_v02_eight_processes_open_a_new_database_at_once(file):
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*(finished("tests.store.process", "fill", f"sqlite:///{file}", n, 1) for n in range(8)))

    store = open_store(f"sqlite:///{file}", RealWorld())
    await store.open()
    assert await figures(store) == {"waiting": 8}
    assert await store.audit() == []
    await store.close()


async def test_fault_l10_checkpoints_beside_commits_of_four_processes_lose_nothing(file, store):
    """Each process moves its log into the database after every few commits, which is when old releases lost pages."""
    async with asyncio.timeout(LIMIT):
        lines = await asyncio.gather(*(finished(PROGRAM, "checkpoint", f"sqlite:///{file}", n, 60) for n in range(4)))

    added = [words[1] for process in lines for words in process if words[0] == "added"]
    assert len(added) == 240
    assert all(job is not None for job in await store.get("files", added))
    assert await store.audit() == []


async def test_fault_l10_only_the_writer_of_a_store_checkpoints(store):
    for line in (store._writer, store._reader):
        assert line._db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


async def test_fault_l11_the_log_stays_bounded_while_jobs_are_added_one_by_one(file, store, monkeypatch):
    monkeypatch.setattr("muskox.store.sqlite.line.CHECKPOINT_BYTES", 100_000)

    for number in range(500):
        await store.add([new(str(number), data='"' + "x" * 3000 + '"')])

    assert file.with_name("jobs.db-wal").stat().st_size < 4_000_000


async def test_fault_l11_the_log_is_cut_back_when_a_store_is_closed(file, store):
    await store.add([new(str(number), data='"' + "x" * 1000 + '"') for number in range(2000)])

    await store.close()

    log = file.with_name("jobs.db-wal")
    assert not log.exists() or log.stat().st_size == 0


# --- versions and file systems ----------------------------------------------------------


async def test_fault_l10_a_sqlite_that_is_too_old_is_refused_with_a_remedy(file, monkeypatch):
    monkeypatch.setattr(database, "OLDEST", (99, 0, 0))

    await refused(
        f"sqlite:///{file}", StoreUnsupported, r"SQLite .* is too old, 99\.0\.0 is needed; use a Python linked"
    )


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A machine on which the folder of the test is on a network file system."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/jobs {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(database, "_MOUNTS", mounts)


async def test_fault_l09_a_network_file_system_is_refused_with_a_remedy(file, network):
    await refused(
        f"sqlite:///{file}", StoreUnsupported, r"network file system \(nfs4\), where SQLite's locks cannot be trusted"
    )

    assert not file.exists()


async def test_fault_l09_a_network_file_system_may_be_forced(file, network):
    store = open_store(f"sqlite:///{file}?network=yes", FakeWorld())
    await store.open()
    await store.add([new()])

    assert (await one(store, "a")).id == "a"
    await store.close()


# --- closing ----------------------------------------------------------------------------


async def test_a_closed_store_says_so(store):
    await store.close()
    await store.close()

    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.add([new()])


async def test_closing_finishes_what_is_on_its_way(file, store):
    adding = [asyncio.create_task(store.add([new(str(number))])) for number in range(50)]
    await asyncio.sleep(0)

    await store.close()

    await asyncio.gather(*adding)
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT count(*) FROM muskox_jobs").fetchone() == (50,)
