"""What a worker counts comes into the figures of the past: with its beat, and when it stops."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from muskox import Fixed, Muskox
from muskox.core.history import Cell, Durations, bucket_of, merged


async def past(ox: Muskox, *, names: bool = False):
    history = await (await ox.store()).history(60, seconds=3600, names=names)
    return {(cell.queue, cell.name) if names else cell.queue: cell for cell in history.cells}


@pytest.fixture
async def ox():
    async with Muskox("sqlite://:memory:") as ox:
        yield ox


async def test_a_worker_leaves_what_it_did_in_the_figures_of_the_past(ox: Muskox):
    email, done = ox.queue("email"), asyncio.Event()

    @email.processor("welcome", attempts=2, backoff=Fixed(0.001))
    async def welcome(fail: bool = False) -> None:
        if fail:
            raise RuntimeError("no answer")

    @email.default_processor()
    async def other() -> None:
        await asyncio.sleep(0)

    @ox.on("failed")
    def failed(event: object) -> None:
        done.set()

    await email.add("anything")
    await email.add("anything else")
    await welcome.add(fail=True)
    async with ox.worker(poll=0.05):
        await asyncio.wait_for(done.wait(), 20)
        while (await email.counts()).completed < 2:  # noqa: ASYNC110 - another loop's affair
            await asyncio.sleep(0.005)

    cell = (await past(ox))["email"]
    assert (cell.completed, cell.failed, cell.retried) == (2, 1, 1)
    assert cell.runs.number == cell.waits.number == 4
    assert set(await past(ox, names=True)) == {("email", "welcome")}


async def test_the_beat_of_a_worker_takes_samples(ox: Muskox):
    @ox.queue("email").processor("welcome")
    async def welcome() -> None: ...

    await ox.queue("files").add("resize")
    async with ox.worker(), asyncio.timeout(20):
        while "files" not in await past(ox):  # noqa: ASYNC110 - the first beat sets no event
            await asyncio.sleep(0.005)

    cell = (await past(ox))["files"]
    assert (cell.added, cell.waiting, cell.most_waiting) == (1, 1.0, 1)


async def test_many_jobs_are_all_counted_and_some_of_them_measured_for_all(ox: Muskox):
    email = ox.queue("email")

    @email.default_processor()
    async def any_name() -> None: ...

    await ox.add_many([email.new(f"name-{number}") for number in range(500)])
    async with ox.worker(poll=0.05, concurrency=200):
        while (await email.counts()).completed < 500:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)

    cell = (await past(ox))["email"]
    assert cell.completed == 500
    assert cell.runs.number == pytest.approx(500, abs=150)
    assert cell.waits.number == pytest.approx(500, abs=150)
    assert await past(ox, names=True) == {}, "names that users make up must not fill the store"


def test_percentiles_of_durations_are_near_the_truth():
    seconds = [0.0001 * 1.003**number for number in range(5000)]

    told = Durations(Counter(map(bucket_of, seconds)))

    assert told.number == 5000
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        truth = seconds[max(0, round(share * 5000) - 1)]
        assert told.quantile(share) == pytest.approx(truth, rel=0.13)
    assert Durations({}).quantile(0.5) is None
    assert told.upto([1e-9, seconds[2500], 1e9]) == [0, pytest.approx(2500, abs=100), 5000]


def test_durations_that_cannot_be_are_the_shortest():
    assert Durations(Counter(map(bucket_of, [-3.0, 0.0, 1e-300]))).quantile(1.0) == pytest.approx(0, abs=1e-11)


def test_cells_of_queues_and_moments_are_put_together():
    one = Cell("email", "", 60, 60, {"failed": 1, "r508": 2}, {"waiting": 9})
    two = Cell("email", "", 0, 60, {"failed": 2}, {"waiting": 4, "oldest_us": 5})

    assert merged([one, two]) == {
        "email": Cell("email", "", 0, 60, {"failed": 3, "r508": 2}, {"waiting": 9, "oldest_us": 5})
    }
