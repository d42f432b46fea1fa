"""Listeners of a worker: each hears its kind of event, and whatever it does harms nothing."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest

from muskox import ActiveJob, Event, Fixed, JobState, Muskox, Processor, on, process
from muskox.core.events import KINDS, Failed, QueueError, Retrying, Stalled
from muskox.store.protocol import Want
from tests.runtime.flaky import FlakyStore
from tests.runtime.helpers import ended, reached, until

HEARD = sorted(set(KINDS) - {"trimmed"})
"""All kinds but the one that is about a reader of the log."""


@pytest.mark.parametrize("style", ["async", "thread"])
async def test_mission_a14_each_kind_of_event_reaches_its_listeners(
    shaky: Muskox, flaky: FlakyStore, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muskox.runtime.presence.BEAT", 0.05)
    queue = shaky.queue("email")
    heard: dict[str, list[Any]] = {kind: [] for kind in HEARD}

    def listen(kind: str) -> None:
        async def one(event: Event) -> None:
            heard[kind].append(event)

        def other(event: Event) -> None:
            heard[kind].append(event)

        shaky.on(kind)(one if style == "async" else other)

    for kind in HEARD:
        listen(kind)

    @queue.processor("good")
    async def good(job: ActiveJob) -> None:
        await job.progress(10)

    @queue.processor("bad", attempts=2, backoff=Fixed(0))
    async def bad() -> None:
        raise ValueError("no")

    @queue.processor("long")
    async def long(job: ActiveJob) -> None:
        await job.progress(1)
        await asyncio.sleep(60)

    # What another worker left behind when it died.
    await flaky.add([queue.new("good", id="left")])
    store = flaky.store
    await store.claim([_want("email", "good")], limit=1, worker="dead", lease=0.01)

    async with shaky.worker(shutdown_timeout=0, lease=1):
        await ended(queue, "left")
        await ended(queue, await queue.add("good"))
        await ended(queue, await queue.add("bad"))
        await ended(queue, await queue.add("good", delay=0.05))
        await queue.add("unknown", id="unknown")
        await until(lambda: heard["held"])
        await queue.update("unknown", {"new": 1})
        await queue.pause()
        await queue.resume()
        await queue.remove("unknown")
        await queue.cancel((await queue.add("long", delay=3600)).id)
        await queue.set_key("one", concurrency=1)
        for job in [await queue.add("unknown", key="one") for _ in range(2)]:
            await queue.cancel(job.id)
        flaky.fail("promote")
        await reached(queue, await queue.add("long"), lambda now: now.progress == 1)
        await until(lambda: all(heard[kind] for kind in HEARD if kind != "released"))

    assert {kind for kind in HEARD if not heard[kind]} == set()
    for kind in HEARD:
        assert {event.kind for event in heard[kind]} == {kind}
    [retrying], [failed] = heard["retrying"], heard["failed"]
    assert isinstance(retrying, Retrying)
    assert isinstance(failed, Failed)
    assert (retrying.attempt, failed.attempt) == (1, 2)
    assert failed.failure is not None
    assert failed.failure.message == "no"
    [stalled] = heard["stalled"]
    assert isinstance(stalled, Stalled)
    assert (stalled.job_id, stalled.stalls) == ("left", 1)
    [held] = heard["held"]
    assert (held.queue, held.name, held.waiting) == ("email", "unknown", 1)


async def test_mission_a14_events_are_seen_from_another_program(filed: Muskox, url: str) -> None:
    queue = filed.queue("email")

    @queue.processor("good")
    async def good(job: ActiveJob) -> None:
        await job.progress(10)

    async with Muskox(url) as other, filed.worker():
        job = await queue.add("good")
        seen: list[str] = []
        async with asyncio.timeout(20):
            async for event in other.queue("email").events(after=0):
                if getattr(event, "job_id", "") == job.id:
                    seen.append(event.kind)
                if event.kind == "completed":
                    break

    assert seen == ["waiting", "active", "progress", "completed"]


async def test_a_listener_hears_only_its_queue(ox: Muskox) -> None:
    one, two = ox.queue("one"), ox.queue("two")
    heard: list[str] = []

    @ox.on("completed", queue="two")
    async def listener(event: Event) -> None:
        heard.append(event.queue)

    for queue in (one, two):

        @queue.processor("good")
        async def good() -> None:
            return None

    async with ox.worker():
        await ended(one, await one.add("good"))
        await ended(two, await two.add("good"))
        await until(lambda: heard)

    assert heard == ["two"]


async def test_a_class_hears_the_events_of_its_queue(ox: Muskox) -> None:
    heard: list[str] = []

    class Emails(Processor, queue="email"):
        @process("good")
        async def good(self) -> str:
            return "done"

        @on("completed")
        async def told(self, event: Event) -> None:
            heard.append(event.kind)

    ox.include(Emails())
    queue = ox.queue("email")
    async with ox.worker():
        assert await queue.result((await queue.add("good")).id, timeout=10) == "done"
        await until(lambda: heard)

    assert heard == ["completed"]


class Strange(BaseException):
    pass


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, Strange]
)
@pytest.mark.parametrize("style", ["async", "thread"])
async def test_fault_e8_mission_a14_a_listener_that_raises_harms_nothing(
    ox: Muskox, kind: type[BaseException], style: str
) -> None:
    queue = ox.queue("email")
    heard: list[str] = []
    errors: list[QueueError] = []

    def burst(event: Event) -> None:
        raise kind()

    async def burst_async(event: Event) -> None:
        burst(event)

    ox.on("completed")(burst if style == "thread" else burst_async)
    ox.on("error")(errors.append)

    @ox.on("completed")
    async def second(event: Any) -> None:
        heard.append(event.job_id)

    @queue.processor("good")
    async def good() -> None:
        return None

    async with ox.worker():
        jobs = [await ended(queue, await queue.add("good")) for _ in range(3)]
        await until(lambda: len(heard) == len(errors) == 3)

    assert heard == [job.id for job in jobs]
    assert all("burst" in error.message for error in errors)


@pytest.mark.parametrize("style", ["async", "thread", "deaf"])
async def test_fault_e8_a_listener_that_hangs_is_given_up(
    ox: Muskox, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muskox.runtime.listeners.PATIENCE", 0.05)
    queue = ox.queue("email")
    gate, let_go = threading.Event(), asyncio.Event()
    heard: list[str] = []

    async def hang_async(event: Event) -> None:
        await let_go.wait()

    async def hang_deaf(event: Event) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    def hang(event: Event) -> None:
        gate.wait(20)

    ox.on("completed")({"async": hang_async, "deaf": hang_deaf, "thread": hang}[style])

    @ox.on("completed")
    async def second(event: Any) -> None:
        heard.append(event.job_id)

    @queue.processor("good")
    async def good() -> None:
        return None

    async with ox.worker():
        job = await ended(queue, await queue.add("good"))
        await until(lambda: heard)
    gate.set()
    let_go.set()

    assert heard == [job.id]


async def test_a_listener_in_a_thread_is_heard_while_all_processors_threads_are_taken(ox: Muskox) -> None:
    queue = ox.queue("email")
    told = threading.Event()

    @ox.on("active")
    def listener(event: Event) -> None:
        told.set()

    @queue.processor("long")
    def long() -> bool:
        return told.wait(10)

    async with ox.worker(concurrency=1):
        assert await queue.result((await queue.add("long")).id, timeout=15) is True


async def test_a_listener_may_be_a_partial_or_hide_that_it_is_async(ox: Muskox) -> None:
    queue = ox.queue("email")
    heard: list[str] = []

    async def listener(word: str, event: Event) -> None:
        heard.append(word)

    class Callable:
        async def __call__(self, event: Event) -> None:
            heard.append("object")

    ox.on("completed")(functools.partial(listener, "partial"))
    ox.on("completed")(Callable())
    ox.on("completed")(lambda event: listener("lambda", event))

    @queue.processor("good")
    async def good() -> None:
        return None

    async with ox.worker():
        await ended(queue, await queue.add("good"))
        await until(lambda: len(heard) == 3)

    assert heard == ["partial", "object", "lambda"]


async def test_a_listener_may_add_jobs(ox: Muskox) -> None:
    queue = ox.queue("email")
    heard: list[str] = []

    @ox.on("completed")
    async def listener(event: Any) -> None:
        heard.append(event.job_id)
        if len(heard) < 3:
            await queue.add("good")

    @queue.processor("good")
    async def good() -> None:
        return None

    async with ox.worker():
        await queue.add("good")
        await until(lambda: len(heard) == 3)


async def test_the_events_of_the_last_runs_are_heard_before_the_worker_is_gone(ox: Muskox) -> None:
    queue = ox.queue("email")
    heard: list[str] = []

    @ox.on("completed")
    async def listener(event: Any) -> None:
        await asyncio.sleep(0.01)
        heard.append(event.job_id)

    @queue.processor("good")
    async def good() -> None:
        return None

    async with ox.worker():
        jobs = await queue.add_many([queue.new("good") for _ in range(10)])
        for job in jobs:
            await ended(queue, job)

    assert sorted(heard) == sorted(job.id for job in jobs)


async def test_a_listener_for_what_comes_from_outside_hears_all_that_happens_once_the_worker_is_up(
    ox: Muskox,
) -> None:
    queue = ox.queue("email")
    heard: list[Any] = []
    ox.on("waiting")(heard.append)

    @queue.processor("good")
    async def good() -> None:
        return None

    async with ox.worker():
        job = await queue.add("good")
        await until(lambda: heard)

    assert [event.job_id for event in heard] == [job.id]
    found = await queue.get(job.id)
    assert found is not None
    assert found.state is JobState.COMPLETED


def _want(queue: str, name: str) -> Any:

    return Want(queue, frozenset({name}))
