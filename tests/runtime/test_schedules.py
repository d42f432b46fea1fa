"""Schedules fired by workers, on three stores: once per moment, at once, by policy, and through trouble."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from muskox import ActiveJob, Muskox, SyncActiveJob, Told
from muskox.runtime.world import RealWorld
from tests.processes import started
from tests.processes import until as told_by
from tests.runtime.helpers import clean, until
from tests.stores import SHARED


@pytest.fixture(params=["sqlite", "redis", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a fresh store, one of three."""
    async with SHARED[request.param](tmp_path, RealWorld()) as (url, _):
        yield url
        async with Muskox(url) as ox:
            assert await clean(ox)


async def test_mission_b04_each_moment_fires_once_however_many_workers_there_are(place):
    ran: list[tuple[int, str]] = []

    def program(number: int) -> Muskox:
        app = Muskox(place)

        @app.every(0.25, name="beat")
        async def beat(job: ActiveJob) -> None:
            ran.append((number, job.id))

        return app

    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(program(number)) for number in range(4)]
        for app in apps:
            await stack.enter_async_context(app.worker())
        await until(lambda: len(ran) >= 8)
        told = list(reversed(await apps[0].schedules.ledger("beat")))

    ids = [id for _, id in ran]
    assert len(ids) == len(set(ids))
    steps = {(after.moment - before.moment) for before, after in pairwise(told)}
    assert steps == {timedelta(seconds=0.25)}
    assert {entry.told for entry in told} == {Told.FIRED}


async def test_mission_b04_per_process_runs_in_each_process_and_adds_no_job(place):
    called: list[int] = []

    def program(number: int) -> Muskox:
        app = Muskox(place)
        app.queue("work").processor("nothing")(_nothing)

        @app.every(0.1, per_process=True, name="beat")
        async def beat() -> None:
            called.append(number)

        return app

    async with program(1) as one, program(2) as two, one.worker(), two.worker():
        await until(lambda: called.count(1) >= 3 and called.count(2) >= 3)
        assert await one.schedules.list() == []
        assert [queue for queue in await one.counts() if queue.total] == []


async def _nothing() -> None: ...


async def test_a_schedule_that_is_added_elsewhere_wakes_the_workers_at_once(place):
    ran = asyncio.Event()
    async with Muskox(place) as ox, Muskox(place) as other:

        @ox.queue("work").processor("count")
        async def count() -> None:
            ran.set()

        async with ox.worker(poll=60):
            await other.schedules.add_once("soon", after=0.2, queue="work", job="count")
            async with asyncio.timeout(30):  # half of the time in which it would be noticed without a hint
                await ran.wait()


async def test_mission_b05_and_fault_c08_a_moment_is_skipped_while_the_last_run_goes_on(place):
    gate = asyncio.Event()
    async with Muskox(place) as ox:

        @ox.every(0.1, overlap="skip")
        async def slow(job: ActiveJob) -> None:
            await gate.wait()

        async with ox.worker():
            while [e.told for e in await ox.schedules.ledger("slow")].count(Told.SKIPPED) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            [one] = (await ox.queue("default").find()).jobs
            gate.set()
            while [e.told for e in await ox.schedules.ledger("slow")].count(Told.FIRED) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    assert one.state == "active"


class Hasty(RealWorld):
    """Its timers are early, as those of real loops are."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(max(0.0, seconds - 0.02))


async def test_fault_t08_a_timer_that_is_early_neither_doubles_nor_misses(place):
    ran: list[str] = []
    async with Muskox(place, world=Hasty()) as ox:

        @ox.every(0.2)
        async def beat(job: ActiveJob) -> None:
            ran.append(job.id)

        async with ox.worker():
            await until(lambda: len(ran) >= 6)
            told = list(reversed(await ox.schedules.ledger("beat")))

    assert len(ran) == len(set(ran))
    assert {after.moment_us - before.moment_us for before, after in pairwise(told)} == {200_000}
    assert all(entry.at_us >= entry.moment_us for entry in told)


async def test_fault_c02_a_worker_that_was_frozen_when_it_was_about_to_fire_comes_too_late(place):
    ran: list[str] = []
    async with Muskox(place) as ox, started("tests.runtime.ticking", "held", place) as frozen:

        @ox.every(0.25)
        async def beat(job: ActiveJob) -> None:
            ran.append(job.id)

        await told_by(frozen, "due")
        frozen.send_signal(signal.SIGSTOP)
        frozen.stdin.write(b"go on\n")
        async with ox.worker():
            await until(lambda: len(ran) >= 3)
            frozen.send_signal(signal.SIGCONT)
            [*_, words] = await told_by(frozen, "fired")
            seen = len(ran)
            await until(lambda: len(ran) >= seen + 2)
        told = list(reversed(await ox.schedules.ledger("beat")))

    assert words == ["fired", "None"]
    assert len(ran) == len(set(ran))
    assert {after.moment_us - before.moment_us for before, after in pairwise(told)} == {250_000}


async def test_a_schedule_for_a_job_that_nobody_runs_is_reported_and_held(place):
    async with Muskox(place) as ox:
        held = []
        ox.queue("work").processor("known")(_nothing)

        @ox.on("held")
        async def hear(event) -> None:
            held.append(event.name)

        await ox.schedules.add_once("lost", after=0, queue="work", job="unknown")
        async with ox.worker():
            await until(lambda: held == ["unknown"])


async def test_a_schedule_that_this_release_cannot_read_holds_up_no_worker(tmp_path, caplog):
    file, ran = tmp_path / "jobs.db", asyncio.Event()
    async with Muskox(f"sqlite:///{file}") as ox:

        @ox.every(0.1, name="strange")
        async def strange() -> None: ...

        @ox.every(0.1, name="sound")
        async def sound() -> None:
            ran.set()

        async with ox.worker():
            await ran.wait()
        with closing(sqlite3.connect(file)) as db, db:
            spoilt = db.execute(
                "UPDATE muskox_schedules SET record = 'of a later release' WHERE name = 'strange'"
            ).rowcount
        ran.clear()
        async with ox.worker():
            await ran.wait()

    assert spoilt == 1
    assert "schedule strange could not be put" in caplog.text


# --- per process -----------------------------------------------------------------------------


async def test_what_a_function_of_each_process_raises_is_told_and_the_next_moment_comes(ox, caplog):
    errors, called = [], []
    ox.queue("work").processor("nothing")(_nothing)

    @ox.every(0.1, per_process=True, queue="work")
    def broken() -> None:
        called.append(1)
        raise RuntimeError("on purpose")

    @ox.on("error")
    async def hear(event) -> None:
        errors.append((event.queue, event.message))

    async with ox.worker():
        await until(lambda: len(called) >= 3 and len(errors) >= 2)

    assert errors[0] == ("work", "schedule broken raised RuntimeError in this process")
    assert "on purpose" in caplog.text


@pytest.mark.parametrize(("options", "most"), [({}, 1), ({"overlap": "allow"}, 3)])
async def test_a_function_of_each_process_overlaps_itself_only_when_it_may(ox, options, most):
    running, seen, done = [], [], []
    ox.queue("work").processor("nothing")(_nothing)

    @ox.every(0.1, per_process=True, **options)
    async def slow() -> None:
        running.append(1)
        seen.append(len(running))
        await asyncio.sleep(0.35)
        running.pop()
        done.append(1)

    async with ox.worker():
        await until(lambda: len(done) >= 3)

    assert (max(seen) == 1) == (most == 1)


async def test_a_stopping_worker_ends_what_runs_in_its_process(ox):
    begun, told = asyncio.Event(), []
    ox.queue("work").processor("nothing")(_nothing)

    @ox.once(after=0, per_process=True)
    async def long() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async with ox.worker():
        await begun.wait()

    assert told == ["cancelled"]


async def test_many_schedules_that_are_due_at_one_moment_all_fire(ox):
    ran: list[str] = []
    queue = ox.queue("work")

    @queue.processor("count")
    def count(job: SyncActiveJob) -> None:
        ran.append(job.id)

    moment = time.time() + 1.5
    for start in range(0, 1200, 100):
        await asyncio.gather(
            *(
                ox.schedules.add_once(f"s{number}", after=max(0.1, moment - time.time()), queue="work", job="count")
                for number in range(start, start + 100)
            )
        )
    async with ox.worker(concurrency=50):
        await until(lambda: len(ran) >= 1200)

    assert len(set(ran)) == 1200
