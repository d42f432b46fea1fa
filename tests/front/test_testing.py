"""The helpers for users' tests do what they say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from muskox import ActiveJob, Fixed, JobState, Muskox, OptionError, StoreUnavailable
from muskox.testing import FakeWorld, FlakyStore, run_jobs, run_jobs_sync
from tests.front.helpers import names


async def test_jobs_run_one_after_another_in_order_with_what_they_add(ox, emails):
    under_way, most = 0, 0

    @emails.processor()
    async def parent(job: ActiveJob, depth: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        if depth:
            await parent.options(priority=depth).add(depth - 1)
        under_way -= 1
        return depth

    await parent.options(priority=-1).add(0)
    await parent.add(3)

    assert [job.result for job in await run_jobs(ox)] == [3, 2, 1, 0, 0]
    assert most == 1


async def test_only_what_is_due_runs_and_time_is_moved_by_hand(ox, emails, world):
    emails.default_processor()(lambda: None)
    await emails.add("tomorrow", delay=86_400)
    await emails.add("now")

    assert names(await run_jobs(ox)) == ["now"]
    assert await run_jobs(ox) == []
    world.advance(86_400)
    assert names(await run_jobs(ox)) == ["tomorrow"]


async def test_a_retry_without_delay_runs_at_once_and_one_with_a_delay_waits(ox, emails, world):
    @emails.default_processor()
    async def second_time(job: ActiveJob) -> int:
        if job.attempt == 1:
            raise ValueError
        return job.attempt

    await emails.add("at once", attempts=2, backoff=Fixed(0))
    await emails.add("later", attempts=2, backoff=Fixed(5))

    assert [(job.name, job.result) for job in await run_jobs(ox)] == [("at once", 2)]
    world.advance(5)
    assert [(job.name, job.result) for job in await run_jobs(ox)] == [("later", 2)]


async def test_the_queues_and_the_number_of_runs_can_be_limited(ox, emails):
    files = ox.queue("files")
    for queue in (emails, files):
        queue.default_processor()(lambda: None)
        await queue.add_many([("a", None), ("b", None)])

    assert [job.queue for job in await run_jobs(ox, queues=["files"], limit=1)] == ["files"]
    assert len(await run_jobs(ox, queues=["files"])) == 1
    assert {job.queue for job in await run_jobs(ox)} == {"email"}
    with pytest.raises(OptionError, match="no processor is declared for the queue 'nothing'"):
        await run_jobs(ox, queues=["nothing"])


async def test_an_endless_chain_of_jobs_is_cut(ox, emails):
    @emails.processor()
    async def again() -> None:
        await again.add()

    await again.add()

    assert len(await run_jobs(ox, limit=25)) == 25


async def test_listeners_hear_everything_in_the_order_in_which_it_happened(ox, emails):
    heard = []
    emails.processor("a")(lambda: None)

    @emails.processor("b")
    async def two(job: ActiveJob) -> None:
        await job.progress(50)
        await emails.add("a")

    for kind in ("waiting", "active", "progress", "completed", "drained"):
        ox.on(kind)(lambda event: heard.append((event.kind, getattr(event, "name", ""))))
    await emails.add("b")

    await run_jobs(ox)

    assert heard == [
        ("active", "b"), ("drained", ""), ("waiting", "a"), ("progress", "b"), ("completed", "b"),
        ("active", "a"), ("drained", ""), ("completed", "a"),
    ]  # fmt: skip


async def test_a_listener_may_add_jobs_and_they_run_too(ox, emails):
    emails.default_processor()(lambda: None)

    @ox.on("completed")
    async def follow(event) -> None:
        if event.name == "first":
            await emails.add("second")

    await emails.add("first")

    assert names(await run_jobs(ox)) == ["first", "second"]


async def test_a_job_that_cancels_or_removes_itself_is_not_run_for_ever(ox, emails):
    @emails.default_processor()
    async def end(job: ActiveJob) -> None:
        await (emails.cancel(job.id) if job.name == "cancel" else emails.remove(job.id))

    await emails.add("cancel")
    await emails.add("remove")

    assert [(job.name, job.state) for job in await run_jobs(ox)] == [("cancel", JobState.CANCELLED)]


async def test_nothing_to_run_is_an_empty_list_and_no_processor_a_mistake(ox, emails):
    with pytest.raises(OptionError, match="no processor is declared"):
        await run_jobs(ox)

    emails.default_processor()(lambda: None)
    assert await run_jobs(ox) == []


async def test_run_jobs_raises_what_the_store_raises(ox, emails):
    emails.default_processor()(lambda: None)
    flaky = ox.wrap_store(FlakyStore)
    await emails.add("a")
    flaky.down = True

    with pytest.raises(StoreUnavailable, match="down on purpose: nothing was done"):
        await run_jobs(ox)

    flaky.down = False
    assert names(await run_jobs(ox)) == ["a"]


async def test_a_store_that_fails_while_a_run_is_under_way_ends_run_jobs(ox, emails, world):
    flaky = ox.wrap_store(FlakyStore)

    @emails.default_processor()
    async def cut() -> None:
        flaky.down = True

    job = await emails.add("a")
    with pytest.raises(StoreUnavailable):
        await run_jobs(ox)
    flaky.down = False

    assert (await emails.get(job.id)).state is JobState.ACTIVE


async def test_a_flaky_store_fails_before_or_after_the_effect_and_counts_its_calls(ox, emails):
    flaky = ox.wrap_store(FlakyStore)
    await emails.add("a")
    flaky.down = True
    with pytest.raises(StoreUnavailable):
        await emails.add("b")
    flaky.down, flaky.lose_answers = False, True
    with pytest.raises(StoreUnavailable):
        await emails.add("c")
    flaky.lose_answers = False

    assert {job.name for job in (await emails.find()).jobs} == {"a", "c"}
    assert flaky.calls["add"] == 2
    await ox.close()


async def test_a_flaky_store_fails_within_a_transaction_too(url, tmp_path):
    import sqlite3

    async with Muskox(url) as ox:
        flaky = ox.wrap_store(FlakyStore)
        with sqlite3.connect(tmp_path / "jobs.db") as tx:
            await ox.queue("email").add("a", within=tx)
            flaky.lose_answers = True
            with pytest.raises(StoreUnavailable):
                await ox.queue("email").add("b", within=tx)
        tx.close()


def test_run_jobs_in_the_real_world(tmp_path):
    ox = Muskox(f"sqlite:///{tmp_path}/jobs.db")
    emails = ox.queue("email")

    @emails.processor(timeout=0.05)
    async def hang() -> None:
        await asyncio.Event().wait()

    emails.sync.add("hang")

    [ended] = run_jobs_sync(ox)

    assert ended.failure.message == "stopped after 0.05 seconds, its timeout"
    ox.sync.close()


# --- the world


async def test_a_world_stands_still_until_it_is_moved(world):
    before = world.now(), world.monotonic()
    woken = []

    async def sleep(seconds: float) -> None:
        await world.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleep(seconds)) for seconds in (5, 1, 3, 0)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (woken, (world.now(), world.monotonic())) == ([0], before)

    world.advance(3)
    await asyncio.gather(tasks[1], tasks[2])
    assert woken == [0, 1, 3]
    assert (world.now(), world.monotonic()) == (before[0] + 3, before[1] + 3)
    world.jump(-100)
    assert world.now() == before[0] - 97
    world.advance(2)
    await tasks[0]


def test_time_does_not_go_back(world):
    with pytest.raises(ValueError, match="time passes forwards, not by -1 seconds; see jump"):
        world.advance(-1)


def test_one_seed_gives_one_world_and_ids_in_order():
    one, two = FakeWorld(seed=7), FakeWorld(seed=7)

    ids = [one.new_id() for _ in range(100)]

    assert ids == [two.new_id() for _ in range(100)]
    assert ids == sorted(ids)
    assert (one.chance(), one.secret(4)) == (two.chance(), two.secret(4))
    assert FakeWorld().new_id() != FakeWorld().new_id()
    assert datetime.fromtimestamp(one.now(), UTC) == datetime(2026, 1, 1, tzinfo=UTC)
