"""Several real processes on one store: every job once, none lost, whoever is killed and whenever."""

from __future__ import annotations

import asyncio
import signal

import pytest

from muskox.core.job import JobState, NewJob
from muskox.runtime.world import RealWorld
from muskox.store.protocol import Selection
from tests.processes import finished, started, until
from tests.store.reading import events, figures

PROGRAM = "tests.store.process"
LIMIT = 60  # seconds for what takes two on an idle machine


@pytest.fixture
def clock():
    """The machine's own, since the other processes have no other."""
    return RealWorld()


@pytest.fixture
def url(shared):
    return shared[0]


@pytest.fixture
def store(shared):
    return shared[1]


async def everyone(store):
    """All jobs by id."""
    jobs, found = {}, await store.find(Selection("files"))
    while True:
        jobs.update((job.id, job) for job in found.jobs)
        if found.cursor is None:
            return jobs
        found = await store.find(Selection("files"), after=found.cursor)


async def test_mission_a08_several_processes_share_a_queue_and_no_job_runs_twice(url, store):
    await store.add([NewJob(str(number), "files", "resize") for number in range(1500)])

    async with asyncio.timeout(LIMIT):
        lines = await asyncio.gather(*(finished(PROGRAM, "drain", url, f"worker-{number}") for number in range(3)))

    done = [words for process in lines for words in process]
    assert {words[0] for words in done} == {"done"}
    assert sorted(int(words[1]) for words in done) == list(range(1500))
    assert len({words[2] for words in done}) == 1500
    assert await figures(store) == {"completed": 1500}
    assert await store.audit() == []


async def test_fault_i8_events_of_several_processes_have_one_row_of_offsets(url, store):
    await store.add([NewJob(str(number), "files", "resize") for number in range(200)])

    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*(finished(PROGRAM, "drain", url, f"worker-{number}") for number in range(2)))

    found = await events(store)
    assert [event.offset for event in found] == list(range(1, len(found) + 1))
    completed = [event.job_id for event in found if event.kind == "completed"]
    assert sorted(completed, key=int) == [str(number) for number in range(200)]


async def test_fault_l01_eight_processes_that_write_are_neither_refused_nor_starved(url, store):
    async with asyncio.timeout(LIMIT):
        lines = await asyncio.gather(*(finished(PROGRAM, "fill", url, f"p{number}", 40) for number in range(8)))

    assert [len(process) for process in lines] == [41] * 8
    assert max(float(process[-1][1]) for process in lines) < 5
    assert await figures(store) == {"waiting": 320}
    assert await store.audit() == []


async def recovered(store, count):
    """Recover again and again until so many jobs came back."""
    found = []
    while len(found) < count:
        found += await store.recover()
        await store.wait(["nothing"], seconds=0.05)
    return found


async def test_fault_w01_the_jobs_of_a_killed_process_come_back(url, store):
    await store.add([NewJob(str(number), "files", "resize") for number in range(5)])

    async with asyncio.timeout(LIMIT), started(PROGRAM, "hold", url, 3, 0.5) as process:
        held = {words[1] for words in await until(process, "ready") if words[0] == "held"}
        process.send_signal(signal.SIGKILL)
        await process.wait()
        back = await recovered(store, 3)

    assert {found.job.id for found in back} == held == {"0", "1", "2"}
    assert {found.worker for found in back} == {"holder"}
    async with asyncio.timeout(LIMIT):
        done = await finished(PROGRAM, "drain", url, "second")
    assert sorted(words[1] for words in done) == ["0", "1", "2", "3", "4"]
    assert await store.audit() == []


async def test_mission_a14_a_wait_ends_when_another_process_adds_a_job(url, store):
    async with asyncio.timeout(LIMIT), started(PROGRAM, "once", url, "a") as process:
        await until(process, "ready")
        waiting = asyncio.create_task(store.wait(["files"], seconds=3600))
        reading = asyncio.create_task(store.events(after=0, seconds=3600))
        process.stdin.write(b"now\n")
        await waiting
        assert [event.job_id for event in await reading] == ["a"]


async def killed(url, prefix, after):
    """Let a process churn, kill it that many lines later, and give what it had been told: added and done."""
    async with started(PROGRAM, "churn", url, prefix) as process:
        lines = await until(process, "done")
        for _ in range(after):
            lines.append((await process.stdout.readline()).decode().split())
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
    # The last line may have been cut off by the kill: a line without its end was not told.
    lines += [line.split() for line in rest.decode().splitlines(keepends=True) if line.endswith("\n")]
    return (
        {id for words in lines if words[0] == "added" for id in words[1:]},
        {id for words in lines if words[0] == "done" for id in words[1:]},
    )


async def test_fault_l03_killed_in_the_middle_of_commits_nothing_that_was_told_is_lost(url, store):
    """Twelve processes, two at a time, are killed with -9 while they do nothing but commit."""
    added, done = set(), set()
    async with asyncio.timeout(LIMIT):
        for turn in range(6):
            for its in await asyncio.gather(*(killed(url, f"{turn}{side}", turn * 5 + side) for side in range(2))):
                added |= its[0]
                done |= its[1]
            assert await store.audit() == []

    jobs = await everyone(store)
    assert added <= jobs.keys()
    assert {jobs[id].state for id in done} == {JobState.COMPLETED}
    assert all(job.attempt <= 1 for job in jobs.values())
    completed = [event.job_id for event in await events(store) if event.kind == "completed"]
    assert len(completed) == len(set(completed))
    assert await store.audit() == []
