"""Many who fire the same moments, some of them frozen or killed: each moment once, all of it or nothing."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

import pytest

from muskox.core.schedule import Overlap
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Selection
from tests.processes import finished, started, until
from tests.store.reading import events, figures
from tests.store.schedules import SECOND, START, firing, kept, put, read

PROGRAM = "tests.store.process"
LIMIT = 60  # seconds for what takes some on an idle machine
STEP = 10 * SECOND


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


async def jobs_of(store, name):
    """The ids of the jobs that a schedule has added."""
    found, ids = await store.find(Selection("files")), set()
    while True:
        ids |= {job.id for job in found.jobs if job.id.startswith(f"schedule:{name}:")}
        if found.cursor is None:
            return ids
        found = await store.find(Selection("files"), after=found.cursor)


def ids(name, moments):
    return {f"schedule:{name}:1:{START + number * STEP}" for number in range(moments)}


@pytest.mark.parametrize("overlap", Overlap)
async def test_fault_c01_of_eight_store_objects_that_fire_a_moment_at_once_one_wins(url, store, overlap):
    await put(store, kept(overlap=overlap))
    async with asyncio.timeout(LIMIT), AsyncExitStack() as stack:
        others = [open_store(url, RealWorld()) for _ in range(8)]
        for other in others:
            stack.push_async_callback(other.close)
            await other.open()
        for _ in range(5):
            seen = await read(store)

            answers = await asyncio.gather(*(other.fire([firing(seen)]) for other in others))

            assert [answer for [answer] in answers].count(None) == 7
    added = 5 if overlap is Overlap.ALLOW else 1
    assert await figures(store) == {"waiting": added}
    assert len(await events(store)) == added
    assert len(await store.ledger("tick")) == 5
    assert await store.audit() == []


async def test_fault_c01_four_processes_fire_each_moment_once(url, store):
    await put(store, kept())
    moments = 40

    async with asyncio.timeout(LIMIT):
        lines = await asyncio.gather(*(finished(PROGRAM, "race", url, START + moments * STEP) for _ in range(4)))

    fired = [int(words[1]) for process in lines for words in process]
    assert sorted(fired) == [START + number * STEP for number in range(moments)]
    assert await jobs_of(store, "tick") == ids("tick", moments)
    assert await figures(store) == {"waiting": moments}
    assert len(await store.ledger("tick")) == moments
    assert await store.audit() == []


async def test_fault_c02_who_was_frozen_after_reading_what_is_due_comes_too_late(url, store):
    await put(store, kept())

    async with asyncio.timeout(LIMIT), started(PROGRAM, "late", url) as process:
        await until(process, "read")
        process.send_signal(signal.SIGSTOP)
        process.stdin.write(b"now\n")
        for _ in range(2):
            assert await store.fire([firing(await read(store))]) == [1]
        process.send_signal(signal.SIGCONT)
        [*_, words] = await until(process, "fired")

    assert words == ["fired", "None"]
    assert await jobs_of(store, "tick") == ids("tick", 2)
    assert await store.audit() == []


NAMES = [f"tick-{number}" for number in range(20)]


async def killed(url, lines):
    """Let a process fire as fast as it can and kill it that many lines later; gives the last it told, by schedule."""
    async with started(PROGRAM, "burn", url, *NAMES) as process:
        told = await until(process, "fired")
        for _ in range(lines):
            told.append((await process.stdout.readline()).decode().split())
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
    # The last line may have been cut off by the kill: a line without its end was not told.
    told += [line.split() for line in rest.decode().splitlines(keepends=True) if line.endswith("\n")]
    return int(told[-1][1])


async def test_fault_c03_killed_in_the_middle_of_firing_each_moment_is_used_up_with_its_jobs_or_not_at_all(url, store):
    """Eight processes, two at a time, are killed with -9 while they do nothing but fire twenty schedules at once."""
    await put(store, *(kept(name) for name in NAMES))
    told = START
    async with asyncio.timeout(LIMIT):
        for number in range(1, 5):
            told = max(told, *await asyncio.gather(killed(url, number), killed(url, 2 * number)))

    found = {one.schedule.name: one for one in (await store.schedules(NAMES)).kept}

    for name in NAMES:
        moments = (found[name].next_us - START) // STEP
        assert found[name].next_us > told, "what was told is lost"
        assert await jobs_of(store, name) == ids(name, moments)
        newest = (await store.ledger(name, limit=1))[0]
        assert (newest.moment_us, newest.job_id) == (found[name].next_us - STEP, found[name].last_job)
        assert found[name].last_us == newest.moment_us
    added = [event.job_id for event in await events(store)]
    assert len(added) == len(set(added)) == (await figures(store))["waiting"]
    assert await store.audit() == []
