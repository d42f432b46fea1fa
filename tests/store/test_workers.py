"""The list of live workers: who beat lately, and who said good-bye."""

from __future__ import annotations

import msgspec

from muskox.store.protocol import Want, WorkerRecord

ADA = WorkerRecord("ada", "host-1", 100, (Want("files", frozenset({"resize", "convert"})), Want("email")), 10, 3, True)


async def test_a_worker_is_listed_as_it_told_of_itself(store, clock):
    await store.beat(ADA)
    clock.advance(2.5)

    assert await store.workers() == [msgspec.structs.replace(ADA, age=2.5)]


async def test_the_latest_beat_counts(store, clock):
    await store.beat(ADA)
    clock.advance(20)
    later = msgspec.structs.replace(ADA, running=7, stopping=False)
    await store.beat(later)

    assert await store.workers() == [later]


async def test_a_silent_worker_is_not_live_after_thirty_seconds(store, clock):
    await store.beat(ADA)
    clock.advance(30)
    assert len(await store.workers()) == 1

    clock.advance(0.001)
    assert await store.workers() == []


async def test_a_worker_that_comes_back_is_live_again(store, clock):
    await store.beat(ADA)
    clock.advance(600)
    await store.beat(ADA)

    assert [worker.id for worker in await store.workers()] == ["ada"]


async def test_a_worker_that_says_good_bye_is_gone_at_once(store):
    await store.beat(ADA)
    await store.beat(msgspec.structs.replace(ADA, id="bob"))

    await store.beat(ADA, gone=True)
    await store.beat(ADA, gone=True)

    assert [worker.id for worker in await store.workers()] == ["bob"]


async def test_fault_w14_workers_of_one_host_and_pid_are_two(store):
    await store.beat(ADA)
    await store.beat(msgspec.structs.replace(ADA, id="bob"))

    assert sorted(worker.id for worker in await store.workers()) == ["ada", "bob"]


async def test_workers_are_seen_from_another_store(shared, another):
    _, store = shared

    await store.beat(ADA)

    assert await another.workers() == [ADA]
