"""Putting limits, declaring them, and changing them while jobs run."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.core.limits import NO_LIMITS, Limits, Rate, WhenFull
from muskox.store.protocol import QueueLimits
from tests.store.conftest import claimer
from tests.store.reading import figures


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


# --- pausing, and turns for what has waited long ------------------------------------------


async def test_fault_q04_what_becomes_due_while_its_queue_is_paused_waits_and_nothing_starts(store, clock, claim):
    delayed = [NewJob(f"{number}", "files", "resize", delay=10, key=f"k{number % 9}") for number in range(3000)]
    await store.add(delayed[:2000])
    await store.add([msgspec.structs.replace(job, key=None) for job in delayed[2000:]])
    clock.advance(11)

    moved = await store.promote(limit=500)
    assert await store.pause("files", True)
    while more := await store.promote(limit=500):
        moved += more
        assert await claim(50) == []

    counts = await figures(store)
    assert (moved, counts["waiting"] + counts["blocked"]) == (3000, 3000)
    assert await store.audit() == []
    waiting = asyncio.ensure_future(store.wait(["files"], seconds=600))
    await asyncio.sleep(0)
    assert await store.pause("files", False)
    async with asyncio.timeout(30):
        await waiting
    assert len(await claim(50)) == 50


async def test_fault_q05_a_pause_and_limits_are_there_for_whoever_opens_the_store_next(shared, another, clock):
    _, store = shared
    await store.pause("files", True)
    await store.limit("files", Limits(concurrency=1))
    await store.hold("email", 60)
    await store.close()

    await another.add([NewJob("a", "files", "resize"), NewJob("b", "email", "send")])

    assert await claimer(another)(5) == await claimer(another)(5, queue="email") == []
    assert [counts.paused for counts in await another.counts(["files"])] == [True]
    assert (await another.limits("files")).limits == Limits(concurrency=1)


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(concurrency=3), Limits(key_concurrency=2)])
async def test_fault_q11_a_low_priority_has_its_turn_within_twenty_claims_however_many_come_before_it(
    store, clock, claim, limits
):
    await store.limit("files", limits)
    await store.add([NewJob("low", "files", "resize", priority=-10, key="low")])
    clock.advance(11)
    number, order = 0, []

    for _ in range(20):
        # They come faster than they are worked off.
        await store.add([NewJob(f"{number + n}", "files", "resize", priority=5, key=f"k{n}") for n in range(3)])
        number += 3
        jobs = await claim(1)
        order += [job.id for job in jobs]
        await complete(store, jobs)

    assert "low" in order
