"""Processors that take many jobs at once: how a batch is gathered, and what becomes of each job in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from muskox import ActiveJob, DeclarationError, FinalError, Muskox, OptionError, SyncActiveJob
from muskox.core.job import JobState
from muskox.testing import FakeWorld, run_jobs
from tests.front.helpers import until, working


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(seed=1)


@pytest.fixture
async def ox(world: FakeWorld) -> AsyncIterator[Muskox]:
    async with Muskox("sqlite://:memory:", world=world) as app:
        yield app
        assert await app.audit() == []


@pytest.fixture
def docs(ox: Muskox):
    return ox.queue("docs")


async def states(queue) -> dict[str, str]:
    return {job.id: job.state.value for job in (await queue.find(limit=1000)).jobs}


async def ended(queue, number: int) -> bool:
    counts = await queue.counts()
    return counts.completed + counts.failed + counts.states[JobState.CANCELLED] >= number


async def settled(queue, number: int, world: FakeWorld) -> None:
    async with asyncio.timeout(20):
        while not await ended(queue, number):
            world.advance(0.05)
            await asyncio.sleep(0.001)


async def test_waiting_jobs_come_together_and_each_has_its_result(ox, docs, world):
    sizes: list[int] = []

    @docs.processor(batch=4)
    async def index(jobs: list[ActiveJob]) -> list[str]:
        sizes.append(len(jobs))
        return [job.data["word"] for job in jobs]

    added = await docs.add_many([("index", {"word": str(number)}) for number in range(10)])
    async with working(ox, world, concurrency=1):
        await settled(docs, 10, world)

    assert sorted(sizes) == [2, 4, 4]
    assert [(await docs.get(job.id)).result for job in added] == [str(number) for number in range(10)]


async def test_a_batch_that_is_not_full_waits_for_so_long_and_no_longer(ox, docs, world):
    batches: list[list[int]] = []

    @docs.processor(batch=3, wait=5)
    async def index(numbers: list[int]) -> None:
        batches.append(numbers)

    await index.add(1)
    async with working(ox, world):
        await until_active(docs, 1)
        world.advance(4)
        await index.add(2)
        await until_active(docs, 2)
        assert batches == []
        await until(lambda: batches, world)
        assert batches == [[1, 2]]
        for number in (3, 4, 5):
            await index.add(number)
        # A full one does not wait, and no time passes here.
        async with asyncio.timeout(20):
            while len(batches) < 2:
                world.advance(0.01)
                await asyncio.sleep(0.001)
        assert batches[1] == [3, 4, 5]
        await settled(docs, 5, world)


async def until_active(queue, number: int) -> None:
    async with asyncio.timeout(20):
        while (await queue.counts()).active < number:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def test_jobs_fail_alone_and_are_tried_again_alone(ox, docs, world):
    seen: list[list[str]] = []

    @docs.processor(batch=10, attempts=2)
    async def index(words: list[str]) -> list[object]:
        seen.append(words)
        return [FinalError("never") if word == "bad" else ValueError("torn") if word == "torn" else 1 for word in words]

    for word in ("good", "bad", "torn"):
        await docs.add("index", word, id=word)
    async with working(ox, world):
        await settled(docs, 3, world)

    assert await states(docs) == {"good": "completed", "bad": "failed", "torn": "failed"}
    assert seen == [["good", "bad", "torn"], ["torn"]]
    assert [(await docs.get(id)).attempt for id in ("good", "bad", "torn")] == [1, 1, 2]
    assert str((await docs.get("torn")).failure) == "ValueError: torn"


async def test_what_the_function_raises_fails_each(ox, docs, world):
    @docs.processor(batch=10)
    async def index(words: list[str]) -> None:
        raise RuntimeError("the index is away")

    for word in ("a", "b"):
        await docs.add("index", word, id=word)
    async with working(ox, world):
        await settled(docs, 2, world)

    assert await states(docs) == {"a": "failed", "b": "failed"}


async def test_data_that_does_not_fit_fails_alone_and_leaves_the_rest(ox, docs, world):
    seen: list[list[int]] = []

    @docs.processor(batch=10, attempts=5)
    async def index(numbers: list[int]) -> list[int]:
        seen.append(numbers)
        return [number * 2 for number in numbers]

    for id, data in (("a", 1), ("b", "two"), ("c", 3)):
        await docs.add("index", data, id=id)
    async with working(ox, world):
        await settled(docs, 3, world)

    assert seen == [[1, 3]]
    assert (await docs.get("b")).failure.kind == "refused"
    assert [(await docs.get(id)).result for id in ("a", "c")] == [2, 6]


async def test_a_batch_of_nothing_but_bad_data_is_not_called(ox, docs, world):
    @docs.processor(batch=10)
    async def index(numbers: list[int]) -> None:
        raise AssertionError("called")

    await docs.add("index", "two", id="b")
    async with working(ox, world):
        await settled(docs, 1, world)

    assert (await docs.get("b")).failure.kind == "refused"


async def test_too_few_results_do_not_undo_the_work(ox, docs, world):
    @docs.processor(batch=10)
    async def index(words: list[str]) -> list[int]:
        return [1]

    for word in ("a", "b"):
        await docs.add("index", word, id=word)
    async with working(ox, world):
        await settled(docs, 2, world)

    assert await states(docs) == {"a": "completed", "b": "completed"}
    assert "a list of 1" in (await docs.get("a")).result_error.message


async def test_a_plain_function_takes_batches_in_a_thread(ox, docs, world):
    @docs.processor(batch=10)
    def index(jobs: list[SyncActiveJob]) -> list[object]:
        for job in jobs:
            job.log("seen")
        return [KeyError("x") if job.data == "bad" else job.attempt for job in jobs]

    for word in ("good", "bad"):
        await docs.add("index", word, id=word)
    async with working(ox, world):
        await settled(docs, 2, world)

    assert await states(docs) == {"good": "completed", "bad": "failed"}
    assert [line.text for line in await docs.logs("good")] == ["seen"]


async def test_a_timeout_ends_the_batch_and_counts_for_each(ox, docs, world):
    begun = asyncio.Event()

    @docs.processor(batch=10, timeout=5)
    async def index(words: list[str]) -> None:
        begun.set()
        await asyncio.Event().wait()

    for word in ("a", "b"):
        await docs.add("index", word, id=word)
    async with working(ox, world):
        await begun.wait()
        await settled(docs, 2, world)

    assert [(await docs.get(id)).failure.kind for id in "ab"] == ["timeout", "timeout"]


async def test_a_cancelled_job_is_told_and_the_others_go_on(ox, docs, world):
    begun, go = asyncio.Event(), asyncio.Event()
    told: list[bool] = []

    @docs.processor(batch=10)
    async def index(jobs: list[ActiveJob]) -> None:
        begun.set()
        await go.wait()
        told.extend(job.cancelled for job in jobs)

    for word in ("a", "b"):
        await docs.add("index", word, id=word)
    async with working(ox, world) as worker:
        await begun.wait()
        await docs.cancel("a")
        [lost] = [run.lease for run in worker._runs.held() if run.lease.job_id == "a"]
        worker._runs.lost([lost])
        go.set()
        await settled(docs, 2, world)

    assert told == [True, False]
    assert await states(docs) == {"a": "cancelled", "b": "completed"}


async def test_a_batch_whose_jobs_are_all_cancelled_is_stopped(ox, docs, world):
    begun, stopped = asyncio.Event(), asyncio.Event()

    @docs.processor(batch=10)
    async def index(words: list[str]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    for word in ("a", "b"):
        await docs.add("index", word, id=word)
    async with working(ox, world) as worker:
        await begun.wait()
        await docs.cancel_all()
        worker._runs.lost([run.lease for run in worker._runs.held()])
        await until(stopped.is_set, world)

    assert await states(docs) == {"a": "cancelled", "b": "cancelled"}


async def test_a_stop_gives_back_what_is_gathered_and_what_does_not_end(ox, docs, world):
    begun = asyncio.Event()

    @docs.processor(batch=2, wait=60)
    async def index(words: list[str]) -> None:
        begun.set()
        await asyncio.Event().wait()

    for word in ("a", "b", "c"):
        await docs.add("index", word, id=word)
    async with working(ox, world) as worker:
        await begun.wait()
        await until_active(docs, 3)
        worker.stop(now=True)

    jobs = [await docs.get(id) for id in "abc"]
    assert [(job.state.value, job.attempt, job.releases) for job in jobs] == [("waiting", 0, 1)] * 3


async def test_a_batch_takes_one_slot_and_others_run_beside_it(ox, docs, world):
    begun, go = asyncio.Event(), asyncio.Event()

    @docs.processor(batch=50)
    async def index(words: list[str]) -> None:
        begun.set()
        await go.wait()

    @docs.processor()
    async def plain() -> None:
        go.set()

    await docs.add_many([("index", str(number)) for number in range(50)])
    async with working(ox, world, concurrency=2):
        await begun.wait()
        await docs.add("plain")
        await settled(docs, 51, world)

    assert (await docs.counts()).completed == 51


async def test_run_jobs_runs_batches_too(ox, docs):
    @docs.processor(batch=5)
    async def index(words: list[str]) -> list[str]:
        return [word.upper() for word in words]

    await docs.add_many([("index", "a"), ("index", "b")])

    assert [job.result for job in await run_jobs(ox)] == ["A", "B"]


async def test_a_class_may_take_batches_and_adding_checks_the_item(ox, docs):
    @docs.processor(batch=5)
    async def index(numbers: list[int]) -> None: ...

    job = await index.add(5)

    assert job.data == 5
    with pytest.raises(ValueError, match="does not fit"):
        await index.add("five")
    with pytest.raises(ValueError, match="the data of one job"):
        await index.add(1, 2)


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": True}, {"batch": 10**6}, {"batch": 5, "wait": -1},
                                     {"batch": 5, "wait": 1000}, {"wait": 1}])  # fmt: skip
def test_options_that_cannot_be_are_refused(docs, options):
    async def index(words: list[str]) -> None: ...

    with pytest.raises(OptionError):
        docs.processor(**options)(index)


def test_declarations_that_cannot_work_are_refused(docs):
    async def no_list(word: str) -> None: ...
    async def two(words: list[str], more: int) -> None: ...
    async def wrong_run(jobs: list[SyncActiveJob]) -> None: ...
    async def words(words: list[str]) -> None: ...

    for function in (no_list, two, wrong_run):
        with pytest.raises(DeclarationError):
            docs.processor(batch=5)(function)
    with pytest.raises(DeclarationError, match="isolated"):
        docs.processor(batch=5, isolated=True)(words)
    with pytest.raises(DeclarationError, match="default"):
        docs.default_processor(batch=5)(words)
