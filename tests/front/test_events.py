"""Following events: from a point on, by kind, in every process, and letting go of it again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from muskox import Event
from muskox.core.events import Delayed, Trimmed, Waiting
from muskox.testing import run_jobs
from tests.front.helpers import LIMIT


async def take(events, count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(LIMIT), aclosing(events):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_events_are_read_from_the_beginning_in_order_and_a_reader_goes_on_where_it_stopped(ox, emails):
    jobs = await emails.add_many([("a", None), ("b", None), emails.new("c", delay=5)])

    first = await take(emails.events(after=0), 2)
    rest = await take(emails.events(after=first[-1].offset), 1)

    assert [(type(event), event.job_id, event.name) for event in first + rest] == [
        (Waiting, jobs[0].id, "a"), (Waiting, jobs[1].id, "b"), (Delayed, jobs[2].id, "c"),
    ]  # fmt: skip
    assert [event.offset for event in first + rest] == [1, 2, 3]
    assert {event.at for event in first} == {jobs[0].added_at}


async def test_without_a_point_to_start_from_events_are_told_from_now_on(emails):
    await emails.add("before")
    following = emails.events()
    told = asyncio.create_task(anext(following))
    for n in range(1000):
        if told.done():
            break
        await emails.add("after", n)

    assert told.result().name == "after"
    await following.aclose()


async def test_a_reader_chooses_queues_and_kinds(ox, emails):
    emails.processor("a")(lambda: None)
    await emails.add("a")
    await ox.queue("files").add("b")
    await run_jobs(ox)

    assert [event.kind for event in await take(emails.events(after=0, kinds="completed"), 1)] == ["completed"]
    assert [event.kind for event in await take(emails.events(after=0, kinds={"active", "completed"}), 2)] == [
        "active", "completed",
    ]  # fmt: skip
    assert [event.queue for event in await take(ox.events(after=0), 2)] == ["email", "files"]
    assert [event.name for event in await take(ox.events(queue="files", after=0), 1)] == ["b"]


async def test_two_readers_do_not_take_events_from_each_other(emails):
    await emails.add_many([("a", None)] * 3)

    one, two = await asyncio.gather(take(emails.events(after=0), 3), take(emails.events(after=0), 3))

    assert one == two


async def test_a_reader_who_comes_too_late_is_told_that_events_are_missing(ox, emails, monkeypatch):
    monkeypatch.setattr("muskox.store.sqlite.upkeep._MOST_EVENTS", 10)
    for number in range(30):
        await emails.add("ab"[number % 2])  # those of one name may be told of together, and are trimmed together
    await (await ox.store()).clear({})

    found = await take(emails.events(after=0, kinds=["completed"]), 1)

    assert isinstance(found[0], Trimmed)


async def test_events_wake_a_waiting_reader(emails):
    reading = asyncio.create_task(take(emails.events(after=0), 1))
    await asyncio.sleep(0)

    job = await emails.add("a")

    [event] = await reading
    assert event.job_id == job.id


@pytest.mark.parametrize("ended", ["closed", "cancelled"])
async def test_a_reader_can_stop_at_any_time(ox, emails, ended):
    following = emails.events()
    waiting = asyncio.create_task(anext(following))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if ended == "closed":
        await following.aclose()

    assert await anext(following, None) is None
