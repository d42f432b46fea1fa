"""Queues that bound how many jobs wait in them, as programs declare them; on every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muskox import JobState, Muskox, OptionError, QueueFull
from muskox.testing import FakeWorld, run_jobs
from tests.stores import STORES


@pytest.fixture(params=STORES)
async def ox(request: pytest.FixtureRequest, tmp_path: Path, world: FakeWorld) -> AsyncIterator[Muskox]:
    async with STORES[request.param](tmp_path, world) as (url, store):
        app = Muskox(url, world=world)
        app._new_store = lambda: store  # type: ignore[method-assign]
        yield app
        assert await store.audit() == []


async def waiting(queue):
    return (await queue.counts()).states[JobState.WAITING]


async def test_a_declared_bound_refuses_what_is_too_much(ox):
    pictures = ox.queue("pictures", max_waiting=2)
    await pictures.add_many([("shrink", 1), ("shrink", 2)])

    with pytest.raises(QueueFull, match="raise max_waiting"):
        await pictures.add("shrink", 3)
    with pytest.raises(QueueFull):
        await ox.add_many([ox.queue("others").new("x"), pictures.new("shrink", 3)])

    assert await waiting(pictures) == 2
    assert (await ox.queue("others").counts()).states[JobState.WAITING] == 0


async def test_the_oldest_make_room_for_the_newest(ox):
    frames, seen = ox.queue("frames", max_waiting=2, when_full="drop-oldest"), []

    @frames.processor("show")
    def show(number: int) -> None:
        seen.append(number)

    for number in range(5):
        await frames.add("show", {"number": number})
    await run_jobs(ox)

    assert seen == [3, 4]


async def test_who_adds_waits_until_there_is_room(ox, world):
    pictures, seen = ox.queue("pictures", max_waiting=1, when_full="wait"), []

    @pictures.processor("shrink")
    def shrink(number: int) -> None:
        seen.append(number)

    await pictures.add("shrink", {"number": 1})

    adding = asyncio.create_task(pictures.add("shrink", {"number": 2}, patience=3600))
    for _ in range(5):
        await asyncio.sleep(0)
        world.advance(1)
    assert not adding.done()
    await run_jobs(ox)
    async with asyncio.timeout(20):
        while not adding.done():
            world.advance(1)
            await asyncio.sleep(0)
    await adding
    await run_jobs(ox)

    assert seen == [1, 2]


async def test_who_adds_waits_no_longer_than_it_says(ox, world):
    pictures = ox.queue("pictures", max_waiting=1, when_full="wait")
    await pictures.add("shrink", 1)

    with pytest.raises(QueueFull):
        await pictures.add("shrink", 2, patience=0)
    with pytest.raises(QueueFull):  # would never fit
        await pictures.add_many([("shrink", 2), ("shrink", 3)])
    adding = asyncio.create_task(pictures.add("shrink", 2))
    before = world.monotonic()
    async with asyncio.timeout(20):
        while not adding.done():
            world.advance(0.5)
            await asyncio.sleep(0)

    with pytest.raises(QueueFull):
        await adding
    assert world.monotonic() - before >= 30


async def test_a_bound_is_changed_while_the_program_runs(ox):
    pictures = ox.queue("pictures", max_waiting=1)
    await pictures.add("shrink", 1)

    limits = await pictures.set_limits(max_waiting=2, when_full="drop-oldest")
    await pictures.add_many([("shrink", 2), ("shrink", 3)])
    assert (limits.limits.max_waiting, limits.limits.when_full) == (2, "drop-oldest")
    assert await waiting(pictures) == 2
    await pictures.set_limits(max_waiting=None)
    await pictures.add_many([("shrink", number) for number in range(10)])

    assert await waiting(pictures) == 12


async def test_blocking_code_and_typed_adds_wait_too(world):
    async with Muskox("sqlite://:memory:", world=world) as ox:
        pictures = ox.queue("pictures", max_waiting=1, when_full="wait")

        @pictures.processor()
        def shrink(number: int) -> None: ...

        await shrink.add(1)
        with pytest.raises(QueueFull):
            await shrink.options(patience=0).add(2)
        with pytest.raises(QueueFull):
            await asyncio.to_thread(shrink.options(patience=0).add_sync, 2)
        with pytest.raises(QueueFull):
            await asyncio.to_thread(pictures.sync.add, "shrink", {"number": 2}, patience=0)


@pytest.mark.parametrize("said", [{"max_waiting": 0}, {"max_waiting": "many"}, {"when_full": "panic"}])
def test_bad_input_a_bound_that_cannot_be_meant_is_refused(said):
    with pytest.raises(OptionError, match=r"max_waiting|when_full"):
        Muskox("sqlite://:memory:").queue("pictures", **said)


async def test_bad_input_patience_is_seconds(world):
    async with Muskox("sqlite://:memory:", world=world) as ox:
        for said in (-1, "long"):
            with pytest.raises(OptionError, match="patience"):
                await ox.queue("pictures").add("shrink", patience=said)
