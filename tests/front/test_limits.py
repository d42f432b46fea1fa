"""Limits of a queue through the app: declared, changed, looked at; keys of jobs; in blocking code too."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from muskox import (
    UNLIMITED,
    ActiveJob,
    KeyLimits,
    Limits,
    Muskox,
    OptionError,
    Rate,
)
from muskox.testing import run_jobs


async def test_limits_are_declared_where_the_queue_is_named_and_put_when_the_store_is_opened(ox):
    queue = ox.queue("email", rate=Rate(100, per=60), concurrency=5, key_rate=Rate(2), key_concurrency=1)

    found = await queue.limits()

    assert found.limits == found.declared == Limits(Rate(100, per=60), 5, Rate(2), 1)
    assert ox.queue("email") is queue
    assert (await ox.queue("other").limits()).limits == Limits()


@pytest.mark.parametrize("verb", ["add", "add_many", "counts", "app add_many", "sync"])
async def test_whatever_uses_the_store_first_puts_what_is_declared(ox, verb):
    queue = ox.queue("email", concurrency=5)
    match verb:
        case "add":
            await queue.add("send")
        case "add_many":
            await queue.add_many([("send", None)])
        case "counts":
            await queue.counts()
        case "app add_many":
            await ox.add_many([ox.queue("other").new("send")])
        case "sync":
            await asyncio.to_thread(queue.sync.add, "send")

    assert (await (await ox.store()).limits("email")).limits == Limits(concurrency=5)


async def test_what_was_changed_at_run_time_outlasts_a_restart_until_the_code_says_otherwise(url):
    async def deployed(**limits):
        async with Muskox(url) as ox:
            queue = ox.queue("email", **limits)
            before = (await queue.limits()).limits
            return before, (await queue.set_limits(concurrency=9)).limits

    assert await deployed(concurrency=5) == (Limits(concurrency=5), Limits(concurrency=9))
    assert await deployed(concurrency=5) == (Limits(concurrency=9), Limits(concurrency=9))
    assert await deployed() == (Limits(concurrency=9), Limits(concurrency=9))
    assert (await deployed(concurrency=6))[0] == Limits(concurrency=6)
    assert (await deployed(concurrency=None))[0] == Limits()


async def test_only_what_is_named_is_changed_and_none_takes_it_away(ox):
    queue = ox.queue("email", rate=Rate(100), concurrency=5)

    changed = await queue.set_limits(concurrency=7, key_concurrency=2)
    taken = await queue.set_limits(rate=None)

    assert changed.limits == Limits(Rate(100), 7, key_concurrency=2)
    assert taken.limits == Limits(concurrency=7, key_concurrency=2)


async def test_a_key_is_a_part_of_a_job(ox, emails):
    @emails.processor("send")
    async def send(to: str) -> None: ...

    jobs = [
        await emails.add("send", {"to": "a"}, key="acme.com"),
        await send.options(key="acme.com").add(to="b"),
        (await emails.add_many([emails.new("send", {"to": "c"}, key="acme.com")]))[0],
    ]

    assert [job.key for job in jobs] == ["acme.com"] * 3
    assert (await emails.key("acme.com")).waiting == 3


async def test_a_run_knows_its_key(ox, emails):
    seen = []

    @emails.processor("send")
    async def send(job: ActiveJob) -> None:
        seen.append(job.key)

    await emails.add("send", key="acme.com")
    await emails.add("send")
    await run_jobs(ox)

    assert seen == ["acme.com", None]


async def test_a_schedule_adds_jobs_with_its_key(ox, world, emails):
    await ox.schedules.add_every("digest", 60, queue="email", job="send", key="acme.com")
    await ox.schedules.update("digest", priority=3)

    job = await ox.schedules.run_now("digest")

    assert (job.key, job.priority) == ("acme.com", 3)


async def test_keys_have_limits_of_their_own(ox):
    queue = ox.queue("email", key_concurrency=1)

    state = await queue.set_key("acme.com", concurrency=5, weight=3)
    again = await queue.set_key("acme.com", rate=UNLIMITED)

    assert (state.concurrency, state.own) == (5, KeyLimits(concurrency=5, weight=3))
    assert again.own == KeyLimits(rate=UNLIMITED, concurrency=5, weight=3)
    assert [key.key for key in await queue.keys()] == ["acme.com"]
    assert (await queue.key("other")).concurrency == 1
    assert (await queue.set_key("acme.com", rate=None, concurrency=None, weight=1)).own == KeyLimits()


async def test_a_queue_and_a_key_can_be_held(ox, world, emails):
    ran = []

    @emails.processor("send")
    async def send(job: ActiveJob) -> None:
        ran.append(job.key)

    await emails.add("send", key="a")
    await emails.add("send", key="b")
    await emails.hold(timedelta(seconds=30), key="a")
    await run_jobs(ox)
    await emails.hold(60)
    world.advance(31)
    await run_jobs(ox)
    assert ran == ["b"]
    assert (await emails.limits()).held_until > (await emails.limits()).at

    await emails.hold(0)
    await run_jobs(ox)

    assert ran == ["b", "a"]


async def test_all_of_it_is_there_for_blocking_code(url):
    def blocking(ox):
        queue = ox.queue("email", concurrency=5).sync
        queue.add("send", key="acme.com")
        queue.hold(30)
        return (
            queue.set_limits(key_concurrency=2).limits,
            queue.set_key("acme.com", weight=2).waiting,
            [key.key for key in queue.keys()],  # noqa: SIM118 - pages of keys, no dict
            queue.key("acme.com").own.weight,
            queue.limits().held_until is not None,
        )

    async with Muskox(url) as ox:
        found = await asyncio.to_thread(blocking, ox)

    assert found == (Limits(concurrency=5, key_concurrency=2), 1, ["acme.com"], 2, True)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda ox: ox.queue("email", rate=100), r"rate must be a Rate such as Rate\(100, per=60\), not 100"),
        (lambda ox: ox.queue("email", concurrency=0), "concurrency must be between 1 and"),
        (lambda ox: ox.queue("email", speed=3), "there is no limit 'speed' for a queue; there are rate, concurrency"),
        (lambda ox: ox.queue("email").new("send", key="k" * 10_000), "key .*10002 characters.* is not allowed"),
        (lambda ox: ox.queue("email").new("send", key=""), "key '' is not allowed; use 1 to 255 printable characters"),
        (lambda ox: ox.queue("email").new("send", key=7), "key 7 is not allowed"),
    ],
)
async def test_what_cannot_be_is_refused_where_it_is_said(ox, use, said):
    with pytest.raises(OptionError, match=said):
        use(ox)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda queue: queue.set_limits(rate=5), "rate must be a Rate"),
        (lambda queue: queue.set_limits(speed=5), "there is no limit 'speed' for a queue"),
        (lambda queue: queue.set_key("a", weight=0), "weight must be between 1 and 100"),
        (lambda queue: queue.set_key("a", speed=0), "there is no limit 'speed' for a key; there are rate, concurr"),
        (lambda queue: queue.set_key("", weight=2), "key '' is not allowed"),
        (lambda queue: queue.hold(-1), "a hold must be between 0 and"),
        (lambda queue: queue.hold("1"), "duration must be seconds or a timedelta"),
        (lambda queue: queue.hold(1, key="\n"), r"key '\\n' is not allowed"),
        (lambda queue: queue.keys(limit=0), "limit must be between 1 and 1000"),
    ],
)
async def test_what_cannot_be_changed_is_refused(emails, use, said):
    with pytest.raises(OptionError, match=said):
        await use(emails)
