"""Putting limits, declaring them, and changing them while jobs run."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.core.limits import NO_LIMITS, Limits, Rate, WhenFull
from muskox.store.protocol import QueueLimits


@pytest.fixture
async def jobs(store):
    """Thirty jobs that wait."""
    await store.add([NewJob(f"{number:02}", "files", "resize") for number in range(30)])


def now_us(clock):
    return int(clock.now() * 1_000_000)


async def complete(store, jobs):
    assert await store.settle([Complete(job.lease) for job in jobs]) == []


async def test_a_queue_without_limits_says_so(store, clock):
    assert await store.limits("files") == QueueLimits("files", now_us(clock), NO_LIMITS)


async def test_limits_are_told_as_they_stand(store, clock, claim, jobs):
    limits = Limits(Rate(1, per=10, burst=2), 5, Rate(3), 2, 1000, WhenFull.WAIT)

    assert await store.limit("files", limits)
    before = await store.limits("files")
    await claim(9)

    now = now_us(clock)
    assert before == QueueLimits("files", now, limits, tokens=2)
    after = msgspec.structs.replace(before, active=2, tokens=0, next_us=now + 10_000_000)
    assert await store.limits("files") == after


async def test_putting_the_same_limits_again_changes_nothing(store):
    assert await store.limit("files", Limits(concurrency=3))
    assert not await store.limit("files", Limits(concurrency=3))
    assert await store.limit("files", NO_LIMITS)
    assert not await store.limit("files", NO_LIMITS)
    assert not await store.limit("email", NO_LIMITS)


async def test_what_code_declares_again_leaves_alone_what_was_changed_since(store):
    assert await store.limit("files", Limits(concurrency=3), declared=True)
    assert await store.limit("files", Limits(concurrency=9))

    assert not await store.limit("files", Limits(concurrency=3), declared=True)

    found = await store.limits("files")
    assert (found.limits, found.declared) == (Limits(concurrency=9), Limits(concurrency=3))


async def test_code_that_was_changed_has_the_last_word(store):
    await store.limit("files", Limits(concurrency=3), declared=True)
    await store.limit("files", Limits(concurrency=9))

    assert await store.limit("files", Limits(concurrency=4), declared=True)

    found = await store.limits("files")
    assert (found.limits, found.declared) == (Limits(concurrency=4), Limits(concurrency=4))
    assert await store.limit("files", NO_LIMITS, declared=True)
    assert (await store.limits("files")).limits == NO_LIMITS


async def test_the_first_declaration_is_written_also_over_what_was_set_before(store):
    await store.limit("files", Limits(concurrency=9))

    assert await store.limit("files", Limits(concurrency=3), declared=True)

    assert (await store.limits("files")).limits == Limits(concurrency=3)


async def test_declaring_no_limit_where_none_was_ever_declared_leaves_what_was_set(store):
    await store.limit("files", Limits(concurrency=9))

    assert not await store.limit("files", NO_LIMITS, declared=True)

    assert (await store.limits("files")).limits == Limits(concurrency=9)


async def test_limits_may_be_raised_lowered_and_taken_away_while_jobs_run(store, claim, jobs):
    await store.limit("files", Limits(concurrency=4))
    running = await claim(9)
    await store.limit("files", Limits(concurrency=2))
    await complete(store, running[:2])
    assert await claim(9) == []
    await store.limit("files", Limits(concurrency=3))
    assert len(await claim(9)) == 1

    await store.limit("files", NO_LIMITS)

    assert len(await claim(9)) == 9


async def test_another_rate_goes_on_from_what_has_started(store, clock, claim, jobs):
    await store.limit("files", Limits(rate=Rate(1, per=60)))
    await claim(9)
    assert await claim(9) == []

    await store.limit("files", Limits(rate=Rate(1, per=5)))

    assert await claim(9) == []
    clock.advance(5)
    assert len(await claim(9)) == 1
