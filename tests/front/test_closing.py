"""What was opened is closed: an app lets go of threads and files, may be used again, and stays out of forks."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from muskox import Muskox
from muskox.testing import run_jobs, run_jobs_sync
from tests.front.helpers import LIMIT, run

FILES = Path("/proc/self/fd")


BEFORE: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def only_threads_of_this_test():
    """Other tests of this process give up threads that never end."""
    BEFORE.clear()
    BEFORE.update(threading.enumerate())


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("muskox") and thread not in BEFORE]


def left() -> list[str]:
    """The threads that are still there when each was given the time to end."""
    for thread in threads():
        thread.join(LIMIT)
    return [thread.name for thread in threads()]


def files(folder: Path) -> list[str]:
    """What this process has open in a folder, as far as the system tells."""
    found = [fd.readlink() for fd in FILES.iterdir() if fd.exists()] if FILES.exists() else []
    return sorted(str(file) for file in found if file.is_relative_to(folder))


async def use(ox: Muskox) -> None:
    emails = ox.queue("email")
    async with ox.worker():
        job = await emails.add("welcome")
        assert await emails.result(job.id, timeout=LIMIT) == "done"
    assert emails.sync.get(job.id).id == job.id


@pytest.mark.parametrize("place", ["file", "memory"])
async def test_a_closed_app_leaves_no_thread_and_no_file_open_and_can_be_used_again(tmp_path, url, place):
    ox = Muskox(url if place == "file" else "sqlite://:memory:")
    ox.queue("email").processor("welcome")(lambda: "done")
    for _ in range(3):
        await use(ox)
        assert threads() != []
        await ox.close()
        assert (left(), files(tmp_path)) == ([], [])

    if place == "file":
        assert (await ox.queue("email").counts()).total == 3
        await ox.close()


async def test_an_app_may_be_closed_twice_or_without_having_been_opened(url, tmp_path):
    ox = Muskox(url)
    await ox.close()
    await ox.close()
    assert list(tmp_path.iterdir()) == []
    async with ox:
        pass
    await ox.close()
    assert (left(), files(tmp_path)) == ([], [])


def test_a_script_that_closes_leaves_nothing_and_may_go_on(url, tmp_path):
    ox = Muskox(url)
    ox.queue("email").processor("welcome")(lambda: "done")
    for _ in range(3):
        ox.queue("email").sync.add("welcome")
        assert len(run_jobs_sync(ox)) == 1
        ox.sync.close()
        assert (left(), files(tmp_path)) == ([], [])
    ox.sync.close()


async def test_queues_and_processors_stay_over_a_close(ox):
    emails = ox.queue("email")
    emails.processor("welcome")(lambda: "done")
    await ox.close()

    await emails.add("welcome")

    assert [job.result for job in await run_jobs(ox)] == ["done"]


UNCLOSED = """
import sys
from muskox import Muskox
ox = Muskox(sys.argv[1])
job = ox.queue("email").sync.add("welcome")
print(job.state)
"""


async def test_a_script_that_never_closes_ends_all_the_same_and_its_job_is_there(tmp_path, url):
    printed = await run(tmp_path, UNCLOSED, url)

    assert printed == "waiting\n"
    async with Muskox(url) as ox:
        assert (await ox.queue("email").counts()).total == 1


FORKING = """
import os, sys, warnings
from muskox import Muskox
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
ox = Muskox(sys.argv[1])
emails = ox.queue("email")
emails.sync.add("before")
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        emails.sync.add("child")
        ox.sync.close()
        os._exit(0)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
emails.sync.add("after")
print(codes, emails.sync.counts().total)
ox.sync.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs a fork that is safe enough")
async def test_an_app_opened_before_a_fork_works_on_both_sides_of_it(tmp_path, url):
    assert await run(tmp_path, FORKING, url) == "[0, 0, 0] 5\n"

    async with Muskox(url) as ox:
        assert await ox.audit() == []
