"""Faults of the disk under a database in one file: no rights, no room, no descriptors, errors of the system."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from muskox.core.errors import StoreError, StoreFull, StoreReadOnly, StoreUnavailable
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Want
from muskox.testing import FakeWorld
from tests.processes import ROOT, environment
from tests.store.reading import figures, state

PROGRAM = "tests.store.process_sqlite"
LIMIT = 60
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


def new(id="a", data="null"):
    return NewJob(id, "files", "resize", data=data)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(file):
    """A store on a file, with the machine's clock."""
    opened = open_store(f"sqlite:///{file}", RealWorld())
    await opened.open()
    yield opened
    await opened.close()


async def refused(url, error, match):
    """Opening must fail with this error; and closing afterwards must be possible."""
    store = open_store(url, FakeWorld())
    with pytest.raises(error, match=match):
        await store.open()
    await store.close()


@contextmanager
def as_somebody_else():
    """Go on without the rights of root, which no file can refuse."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that everybody may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)
        Path(name).chmod(0o777)


async def test_a_file_that_may_not_be_written_is_said_so(open_folder):
    file = open_folder / "jobs.db"
    store = open_store(f"sqlite:///{file}", FakeWorld())
    await store.open()
    await store.close()
    file.chmod(0o444)
    open_folder.chmod(0o555)

    with as_somebody_else():
        await refused(f"sqlite:///{file}", StoreReadOnly, "may not be written")


async def test_a_folder_that_may_not_be_written_is_said_so(open_folder):
    open_folder.chmod(0o555)

    with as_somebody_else():
        await refused(
            f"sqlite:///{open_folder}/jobs.db", StoreReadOnly, "cannot be made: Permission denied; check who may"
        )


async def test_a_new_database_is_readable_by_its_owner_alone(file, store):
    assert file.stat().st_mode & 0o777 == 0o600


@contextmanager
def pages(store, count):
    """Let the database grow to so many pages: a disk that is full, as SQLite tells it."""
    db = store._writer._db
    [used] = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {used + count}")
    yield
    db.execute("PRAGMA max_page_count = 1073741823")


async def fill(store):
    """Add until there is no room; gives the ids that were acknowledged."""
    added = []
    while True:
        id = str(len(added))
        await store.add([new(id, data='"' + "x" * 3000 + '"')])
        added.append(id)


async def test_fault_l05_a_full_database_is_said_so_and_work_goes_on_when_there_is_room(store):
    with pages(store, 40), pytest.raises(StoreFull, match=r"no room to write .* free some disk space"):
        await fill(store)

    counted = (await figures(store))["waiting"]
    assert await store.audit() == []
    await store.add([new("after")])
    assert await figures(store) == {"waiting": counted + 1}


async def test_fault_l05_a_bulk_that_does_not_fit_leaves_nothing(store):
    with pages(store, 40), pytest.raises(StoreFull):
        await store.add([new(str(number), data='"' + "x" * 3000 + '"') for number in range(1000)])

    assert await figures(store) == {}
    assert await store.events(after=0) == []
    assert await store.audit() == []


async def test_fault_l05_of_several_callers_only_those_without_room_are_refused(store):
    with pages(store, 40):
        big = [new(f"big-{number}", data='"' + "x" * 3000 + '"') for number in range(100)]
        answers = await asyncio.gather(store.add(big), store.add([new("small")]), return_exceptions=True)

    assert isinstance(answers[0], StoreFull)
    assert answers[1][0].created
    assert await figures(store) == {"waiting": 1}


async def test_fault_l05_runs_are_settled_although_no_job_can_be_added(store):
    await store.add([new(str(number)) for number in range(5)])
    jobs = await store.claim([Want("files")], limit=5, worker="w", lease=30)
    with pages(store, 40):
        with pytest.raises(StoreFull):
            await fill(store)
        lost = await store.settle([Complete(job.lease) for job in jobs])

    assert lost == []
    assert (await figures(store))["completed"] == 5


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with room for two megabytes."""
    point = tmp_path / "disk"
    point.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "muskox-test", point], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.decode().strip()}")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


@NEEDS_ROOT
async def test_fault_l05_a_full_disk_is_said_so_and_work_goes_on_when_there_is_room(small_disk):
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 1_000_000)
    store = open_store(f"sqlite:///{small_disk}/jobs.db", RealWorld())
    await store.open()

    with pytest.raises(StoreFull, match="no room to write"):
        await fill(store)
    counted = (await figures(store))["waiting"]
    filler.unlink()
    await store.add([new("after")])

    assert await figures(store) == {"waiting": counted + 1}
    assert await store.audit() == []
    await store.close()


@contextmanager
def limited(what, most):
    """Lower a limit of this process for a while."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


async def test_fault_l06_a_write_that_the_system_refuses_is_typed_and_harms_nothing(file, store):
    await store.add([new("before")])
    with limited(resource.RLIMIT_FSIZE, 400_000), pytest.raises(StoreError):
        await fill(store)

    await store.add([new("after")])

    assert await state(store, "before") is JobState.WAITING
    assert await state(store, "after") is JobState.WAITING
    assert await store.audit() == []


@contextmanager
def descriptors_used_up():
    """Open what can be opened, so that not one file more can be."""
    taken = []
    with limited(resource.RLIMIT_NOFILE, 400):
        try:
            while True:
                taken.append(os.dup(2))
        except OSError:
            yield
        finally:
            for fd in taken:
                os.close(fd)


async def test_fault_l06_no_descriptor_left_is_typed_and_opening_again_works(file):
    store = open_store(f"sqlite:///{file}", RealWorld())
    with descriptors_used_up(), pytest.raises(StoreUnavailable):
        await store.open()

    await store.open()
    await store.add([new()])
    await store.close()


@pytest.mark.skipif(shutil.which("strace") is None, reason="no syscall tracer on this machine")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "ftruncate"])
@pytest.mark.parametrize("at", [3, 9])
async def test_fault_l06_an_error_of_the_disk_at_the_nth_call_is_typed_and_harms_nothing(file, store, call, at):
    await store.add([new("before")])
    await store.close()

    out = await traced(["-f", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={at}"], "stumble", file)

    reopened = open_store(f"sqlite:///{file}", RealWorld())
    await reopened.open()
    assert {words[0] for words in out} <= {"added", "refused"}
    for id in ["before", *(words[1] for words in out if words[0] == "added")]:
        assert await state(reopened, id) is JobState.WAITING
    assert await reopened.audit() == []
    await reopened.close()


async def traced(options, verb, file):
    """Run a program under the tracer; gives its lines as words, or skips where tracing is not allowed."""
    process = await asyncio.create_subprocess_exec(
        "strace", "-qq", "-o", "/dev/null", *options, sys.executable, "-m", PROGRAM, verb, f"sqlite:///{file}",
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(LIMIT):
        out, err = await process.communicate()
    if b"ptrace" in err or b"PTRACE" in err:
        pytest.skip("tracing is not allowed on this machine")
    assert process.returncode == 0, err.decode()
    return [line.split() for line in out.decode().splitlines()]
