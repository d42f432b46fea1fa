"""What is left of a database after the power was cut, and after the locks of a reader or of the dead were met."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing

import pytest

from muskox.core.errors import StoreUnavailable
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Selection, Want
from tests.processes import started, until

HEADER, FRAME = 32, 24 + 4096
"""Bytes of the write-ahead log's header, and of a frame with its page (https://sqlite.org/fileformat2.html#walformat)."""


def new(id):
    return NewJob(id, "files", "resize")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(file):
    opened = open_store(f"sqlite:///{file}", RealWorld())
    await opened.open()
    yield opened
    await opened.close()


async def left_after_cut(folder, file, log, size):
    """The jobs in a copy of the database whose log was cut to a size, when it is opened again."""
    folder.mkdir()
    shutil.copy(file, folder / file.name)
    (folder / f"{file.name}-wal").write_bytes(log[:size])
    store = open_store(f"sqlite:///{folder / file.name}", RealWorld())
    await store.open()
    assert await store.audit() == []
    jobs = (await store.find(Selection("files"))).jobs
    [added] = await store.add([new("after")])
    await store.close()
    assert added.created
    return {job.id: job.state for job in jobs}


async def test_fault_l04_a_power_cut_takes_a_last_stretch_of_commits_and_nothing_before_it(file, store, tmp_path):
    """At the default level the log is not synced at each commit: any tail of it may be missing, or end in mid-page."""
    for number in range(12):
        await store.add([new(f"{number:02}")])
        [job] = await store.claim([Want("files")], limit=1, worker="w", lease=30)
        await store.settle([Complete(job.lease)])
    log = (tmp_path / "jobs.db-wal").read_bytes()
    frames = (len(log) - HEADER) // FRAME
    assert frames > 100

    kept = []
    for number, frame in enumerate(range(0, frames + 1, 3)):
        torn = HEADER + frame * FRAME + (number % 3) * 1500
        kept.append(await left_after_cut(tmp_path / f"cut-{frame}", file, log, torn))

    ids = [sorted(jobs) for jobs in kept]
    assert all(its == [f"{number:02}" for number in range(len(its))] for its in ids)
    assert [len(its) for its in ids] == sorted(len(its) for its in ids)
    assert (len(ids[0]), len(ids[-1])) == (0, 12)
    # All but the last job had been completed before the last was added.
    assert {jobs[id] for jobs in kept for id in sorted(jobs)[:-1]} == {JobState.COMPLETED}


async def test_fault_l04_at_the_level_fsync_each_commit_is_synced(file):
    store = open_store(f"sqlite:///{file}?durability=fsync", RealWorld())
    await store.open()

    level = await store._writer.run(lambda tx: tx.db.execute("PRAGMA synchronous").fetchone())

    assert level == (2,)
    await store.close()


async def test_fault_l02_an_add_within_an_outdated_snapshot_is_refused_and_works_in_the_next(file, store):
    await store.add([new("before")])

    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM muskox_jobs").fetchone()
        await store.add([new("meanwhile")])
        with pytest.raises(StoreUnavailable):
            store.add_within([new("mine")], connection)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        [added] = store.add_within([new("mine")], connection)
        connection.execute("COMMIT")

    assert added.created
    assert {job.id for job in (await store.find(Selection("files"))).jobs} == {"before", "meanwhile", "mine"}
    assert await store.audit() == []


async def test_fault_l02_what_a_killed_writer_left_is_recovered_by_many_at_once(file):
    url = f"sqlite:///{file}"
    async with started("tests.store.process_sqlite", "checkpoint", url, "killed", 10_000) as process:
        said = await until(process, "added")
        for _ in range(20):
            said += await until(process, "added")
        process.kill()
        await process.wait()

    stores = [open_store(url, RealWorld()) for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.add([new(f"after-{number}")]) for number, store in enumerate(stores)))

    found = await stores[0].get("files", [words[1] for words in said] + [f"after-{number}" for number in range(6)])
    assert None not in found
    assert await stores[0].audit() == []
    for store in stores:
        await store.close()
