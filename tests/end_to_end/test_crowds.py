"""Crowds: many workers that start at once, many jobs that fail at once, and two processes that share the work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from muskox import Exponential, JobState, Muskox
from muskox.core.job import SETTLED
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from tests.end_to_end.conftest import LIMIT, MAIN

WORKERS = 16
READY = 3000
STORM = 5000


@pytest.fixture(params=MAIN)
async def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a store that several may open."""
    async with MAIN[request.param](tmp_path, RealWorld()) as (url, _):
        yield url


async def all_ended(ox: Muskox, queue: str, total: int, limit: float = LIMIT) -> None:
    async with asyncio.timeout(limit):
        while True:
            states = (await ox.queue(queue).counts()).states
            if sum(states[state] for state in SETTLED) == total:
                return
            await asyncio.sleep(0.01)


class Watched:
    """A store that keeps a record of its claims: how many are on their way, and how many jobs each may take."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.now = self.most_at_once = self.most_jobs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, *words: Any, limit: int, **named: Any) -> Any:
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        self.most_jobs = max(self.most_jobs, limit)
        try:
            return await self._store.claim(*words, limit=limit, **named)
        finally:
            self.now -= 1


async def test_fault_b02_workers_that_start_at_once_share_what_is_there_and_make_no_storm(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[int] = Counter()
    shares: Counter[int] = Counter()
    watched: list[Watched] = []

    def opened(url: str, world: Any) -> Any:
        watched.append(Watched(open_store(url, world)))
        return watched[-1]

    def member(number: int) -> Muskox:
        app = Muskox(shared_url)

        @app.queue("crowd").processor("count")
        async def count(index: int) -> None:
            runs[index] += 1
            shares[number] += 1
            await asyncio.sleep(0.005)

        return app

    async with Muskox(shared_url) as ox:
        await ox.queue("crowd").add_many(("count", {"index": index}) for index in range(READY))
        monkeypatch.setattr("muskox.app.open_store", opened)
        async with AsyncExitStack() as crowd:
            apps = [await crowd.enter_async_context(member(number)) for number in range(WORKERS)]
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*(crowd.enter_async_context(app.worker(concurrency=4)) for app in apps))
            await all_ended(ox, "crowd", READY)
        [figures] = await ox.counts()
        found = await ox.audit()

    assert set(runs.values()) == {1}
    assert len(runs) == READY
    assert figures.states[JobState.COMPLETED] == READY
    assert found == []
    assert min(shares[number] for number in range(WORKERS)) > 0
    # Two claims of a worker at most are on their way, whatever it has room for, and each is bounded.
    assert max(store.most_at_once for store in watched) <= 2
    assert max(store.most_jobs for store in watched) <= 4 * (1 + 6)


@pytest.fixture(params=MAIN)
async def ox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Muskox]:
    """An app on each kind of store."""
    async with MAIN[request.param](tmp_path, RealWorld()) as (url, _), Muskox(url) as app:
        yield app
        assert await app.audit() == []


async def test_fault_b03_jobs_that_all_fail_at_once_hold_up_no_other_queue_and_come_back_spread_out(
    ox: Muskox,
) -> None:
    storm, calm = ox.queue("storm"), ox.queue("calm")
    fell: Counter[int] = Counter()
    falling = asyncio.Event()

    @storm.processor("call", attempts=2, backoff=Exponential(1000, jitter=0.5))
    async def call(index: int) -> None:
        fell[index] += 1
        if len(fell) >= STORM // 10:
            falling.set()
        raise ConnectionError("the other side is down")

    @calm.processor("note")
    async def note() -> None: ...

    await storm.add_many(("call", {"index": index}) for index in range(STORM))
    async with ox.worker(concurrency=20), asyncio.timeout(LIMIT):
        await falling.wait()
        notes = [await calm.add("note") for _ in range(5)]
        await asyncio.gather(*(calm.result(note.id) for note in notes))
        fallen_by_then = len(fell)
        while (await storm.counts()).states[JobState.DELAYED] < STORM:  # noqa: ASYNC110 - a store sets no event
            await asyncio.sleep(0.01)
        jobs = await everyone(ox, "storm")

    assert fallen_by_then < STORM, "the other queue was served only when the storm was over"
    assert set(fell.values()) == {1}
    assert {(job.state, job.attempt, job.stalls) for job in jobs} == {(JobState.DELAYED, 1, 0)}
    waits = [(job.due_us - job.started_us) / 1_000_000 for job in jobs]
    assert all(500 <= wait <= 1600 for wait in waits)
    # Spread evenly over 1000 seconds, 100 seconds have a tenth of them.
    slices = Counter(int(wait // 100) for wait in waits)
    assert max(slices.values()) < STORM // 6


async def everyone(ox: Muskox, queue: str) -> list[Any]:
    jobs: list[Any] = []
    found = await ox.queue(queue).find(limit=1000)
    while True:
        jobs += found.jobs
        if found.cursor is None:
            return jobs
        found = await ox.queue(queue).find(limit=1000, after=found.cursor)
