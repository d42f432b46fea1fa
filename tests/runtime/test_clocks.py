"""Clocks that are wrong, jump or stand still: only the store's time counts, and no jump is taken for a stall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from muskox import ActiveJob, Event, Fixed, JobState, Muskox
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Want
from muskox.testing import FakeWorld
from tests.runtime.helpers import ended, on_store, reached, until


class SkewedWorld(RealWorld):
    """The real world as seen by a machine whose clock is wrong."""

    def __init__(self, wrong: float) -> None:
        super().__init__()
        self._wrong = wrong

    def now(self) -> float:
        return super().now() + self._wrong


@pytest.mark.parametrize("wrong", [600.0, -600.0], ids=["ahead", "behind"])
async def test_fault_t01_the_clock_of_a_workers_machine_does_not_count(wrong: float) -> None:
    store = open_store("sqlite://:memory:", RealWorld())
    await store.open()
    ox = on_store(store)
    ox.world = SkewedWorld(wrong)
    queue = ox.queue("email")
    gate = asyncio.Event()

    @queue.processor("long")
    async def long() -> str:
        await gate.wait()
        return "done"

    @queue.processor("late", attempts=2, backoff=Fixed(0.1))
    async def late(job: ActiveJob) -> int:
        if job.attempt == 1:
            raise ValueError("once")
        return job.attempt

    async with ox.worker(lease=0.5), ox.worker(lease=0.5):
        running = await queue.add("long")
        delayed = await ended(queue, await queue.add("late", delay=0.3))
        beats = ox.world.monotonic() + 1.2
        await until(lambda: ox.world.monotonic() > beats)  # more than two leases
        gate.set()
        settled = await ended(queue, running)

    assert (settled.state, settled.stalls, settled.attempt) == (JobState.COMPLETED, 0, 1)
    assert (delayed.state, delayed.stalls, delayed.attempt) == (JobState.COMPLETED, 0, 2)
    assert delayed.started_us is not None
    assert 0.4 <= (delayed.started_us - delayed.added_us) / 1e6 < 5
    await store.close()


class Stage:
    """An app in a world whose time passes only in small steps of the test's, or in a jump."""

    def __init__(self) -> None:
        self.world = FakeWorld(seed=7)
        self.ox = Muskox("sqlite://:memory:", world=self.world)
        self.queue = self.ox.queue("email")

    async def pass_time(self, seconds: float, step: float = 0.2) -> None:
        for _ in range(round(seconds / step)):
            self.world.advance(step)
            await asyncio.sleep(0.004)

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """Let time pass by itself for the length of a block."""
        task = asyncio.create_task(self.pass_time(100_000))
        try:
            yield
        finally:
            task.cancel()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    async with made.ox:
        yield made
        assert await made.ox.audit() == []


async def test_fault_t02_a_jump_forwards_stalls_no_run_that_is_alive(stage: Stage) -> None:
    gate, starts = asyncio.Event(), 0

    @stage.queue.processor("long")
    async def long() -> str:
        nonlocal starts
        starts += 1
        await gate.wait()
        return "done"

    async with stage.ox.worker(lease=30):
        job = await stage.queue.add("long")
        delayed = await stage.queue.add("long", delay=1800)
        await reached(stage.queue, job, lambda now: now.state is JobState.ACTIVE)
        await stage.pass_time(3)
        stage.world.jump(3600)
        await stage.pass_time(10)
        between = await stage.queue.get(job.id)
        early = await stage.queue.get(delayed.id)
        gate.set()
        async with stage.ticking():
            settled = await ended(stage.queue, job)
            await ended(stage.queue, delayed)

    assert between is not None
    assert (between.state, between.stalls) == (JobState.ACTIVE, 0)
    assert early is not None
    assert early.state is not JobState.DELAYED  # early by the jump: the store's clock is the law
    assert (settled.state, settled.stalls, settled.attempt) == (JobState.COMPLETED, 0, 1)
    assert starts == 2


async def test_fault_t03_a_jump_backwards_stops_nothing(stage: Stage) -> None:
    starts: list[int] = []
    gate = asyncio.Event()

    @stage.queue.processor("long")
    async def long(job: ActiveJob) -> str:
        starts.append(job.attempt)
        await gate.wait()
        return "done"

    @stage.queue.processor("quick")
    async def quick() -> str:
        return "done"

    async with stage.ox.worker(lease=30):
        job = await stage.queue.add("long")
        await reached(stage.queue, job, lambda now: now.state is JobState.ACTIVE)
        # Another worker's job, whose lease nobody renews any more.
        store = await stage.ox.store()
        await stage.pass_time(2)
        stage.world.jump(-3600)
        await stage.pass_time(5)
        fresh = await stage.queue.add("quick")
        later = await stage.queue.add("quick", delay=10)
        async with stage.ticking():
            await ended(stage.queue, fresh)
            await ended(stage.queue, later)
            gate.set()
            settled = await ended(stage.queue, job)
        assert await store.recover() == []

    assert starts == [1]
    assert (settled.state, settled.stalls) == (JobState.COMPLETED, 0)


async def test_fault_t03_after_a_jump_backwards_a_dead_workers_job_comes_back_after_its_lease(stage: Stage) -> None:

    @stage.queue.processor("quick")
    async def quick() -> str:
        return "done"

    job = await stage.queue.add("quick")
    store = await stage.ox.store()
    await store.claim([Want("email")], limit=1, worker="dead", lease=30)
    stage.world.jump(-3600)
    began = stage.world.monotonic()
    async with stage.ox.worker(lease=30):
        while (found := await stage.queue.get(job.id)) is None or not found.settled:
            await stage.pass_time(1)
            assert stage.world.monotonic() - began < 30 + 5

    assert (found.state, found.stalls) == (JobState.COMPLETED, 1)


async def test_fault_t04_a_machine_that_slept_goes_on_with_what_nobody_took(stage: Stage) -> None:
    starts: list[int] = []
    gate = asyncio.Event()

    @stage.queue.processor("long")
    async def long(job: ActiveJob) -> str:
        starts.append(job.attempt)
        await gate.wait()
        return "done"

    async with stage.ox.worker(lease=30):
        job = await stage.queue.add("long")
        await reached(stage.queue, job, lambda now: now.state is JobState.ACTIVE)
        await stage.pass_time(2)
        stage.world.advance(8 * 3600)  # a monotonic clock that goes on during the sleep
        await stage.pass_time(8)
        between = await stage.queue.get(job.id)
        gate.set()
        async with stage.ticking():
            settled = await ended(stage.queue, job)

    assert between is not None
    assert (between.state, between.stalls) == (JobState.ACTIVE, 0)
    assert starts == [1]
    assert (settled.state, settled.stalls) == (JobState.COMPLETED, 0)


async def test_fault_w04_a_worker_that_was_frozen_does_not_take_its_own_jobs_for_stalled(stage: Stage) -> None:
    gate = asyncio.Event()

    @stage.queue.processor("long")
    async def long() -> str:
        await gate.wait()
        return "done"

    async with stage.ox.worker(lease=3):
        job = await stage.queue.add("long")
        await reached(stage.queue, job, lambda now: now.state is JobState.ACTIVE)
        await stage.pass_time(2)
        stage.world.advance(4)
        await stage.pass_time(6)
        between = await stage.queue.get(job.id)
        gate.set()
        async with stage.ticking():
            await ended(stage.queue, job)

    assert between is not None
    assert (between.state, between.stalls) == (JobState.ACTIVE, 0)


async def test_a_worker_that_is_always_late_recovers_all_the_same(stage: Stage) -> None:
    @stage.queue.processor("quick")
    async def quick() -> str:
        return "done"

    job = await stage.queue.add("quick")
    store = await stage.ox.store()
    await store.claim([Want("email")], limit=1, worker="dead", lease=3)
    async with stage.ox.worker(lease=3):
        for _ in range(20):
            await stage.pass_time(10, step=10)  # each turn of the loop comes much too late
        after = await stage.queue.get(job.id)

    assert after is not None
    assert (after.state, after.stalls) == (JobState.COMPLETED, 1)


async def test_a_dead_workers_job_is_back_within_its_lease_and_five_seconds(stage: Stage) -> None:

    @stage.queue.processor("quick", timeout=36_000)
    async def quick() -> str:
        return "done"

    job = await stage.queue.add("quick")
    store = await stage.ox.store()
    await store.claim([Want("email")], limit=1, worker="dead", lease=30)
    async with stage.ox.worker(lease=30):
        await stage.pass_time(29)
        before = await stage.queue.get(job.id)
        await stage.pass_time(6)
        after = await reached(stage.queue, job, lambda now: now.settled)

    assert before is not None
    assert before.state is JobState.ACTIVE
    assert (after.state, after.stalls) == (JobState.COMPLETED, 1)


@pytest.mark.parametrize("early", [0.001, 0.02])
async def test_fault_t08_a_timer_that_fires_early_starts_nothing_early_or_twice(stage: Stage, early: float) -> None:
    starts: list[float] = []

    @stage.queue.processor("late")
    async def late() -> None:
        starts.append(stage.world.now())

    @stage.queue.processor("probe")
    async def probe() -> None:
        return None

    async with stage.ox.worker():
        job = await stage.queue.add("late", delay=60)
        await stage.pass_time(59.8)
        stage.world.advance(0.2 - early)
        for _ in range(3):  # the worker has looked since then
            await reached(stage.queue, await stage.queue.add("probe"), lambda now: now.settled)
        too_early = list(starts)
        async with stage.ticking():
            settled = await ended(stage.queue, job)

    assert too_early == []
    assert len(starts) == 1
    assert settled.started_us is not None
    assert settled.started_us >= settled.added_us + 60_000_000


async def test_a_worker_stops_also_where_time_stands_still(stage: Stage) -> None:
    heard: list[str] = []

    @stage.ox.on("completed")
    async def listener(event: Event) -> None:
        await asyncio.to_thread(heard.append, event.kind)

    @stage.queue.processor("quick")
    async def quick() -> None:
        return None

    for _ in range(5):
        async with asyncio.timeout(10):
            async with stage.ox.worker():
                await ended(stage.queue, await stage.queue.add("quick"))

    assert heard == ["completed"] * 5


async def test_mission_a10_a_delay_of_a_month_is_kept_to(stage: Stage) -> None:
    @stage.queue.processor("late")
    async def late() -> None:
        return None

    async with stage.ox.worker(lease=30):
        job = await stage.queue.add("late", delay=30 * 86_400)
        stage.world.advance(30 * 86_400 - 10)
        await stage.pass_time(5)
        before = await stage.queue.get(job.id)
        async with stage.ticking():
            after = await ended(stage.queue, job)

    assert before is not None
    assert before.state is JobState.DELAYED
    assert after.state is JobState.COMPLETED
