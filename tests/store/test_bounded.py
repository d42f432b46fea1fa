"""Queues that bound how many jobs wait in them: refuse, drop the oldest, or have who adds wait; exact under races."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.dedup import Dedup
from muskox.core.errors import QueueFull
from muskox.core.job import JobState, NewJob, Options
from muskox.core.life import Complete, Fail, Release, Retry
from muskox.core.limits import NO_LIMITS, Limits, WhenFull
from muskox.store.protocol import Selection
from tests.processes import finished
from tests.store.reading import BROKEN, events, everything, figures
from tests.store.schedules import firing, kept, put

DROP, WAIT = WhenFull.DROP_OLDEST, WhenFull.WAIT


@pytest.fixture
async def store(store):
    """A store that must be sound at the end."""
    yield store
    assert await store.audit() == []


def new(id, **fields):
    return NewJob(str(id), fields.pop("queue", "files"), fields.pop("name", "resize"), **fields)


async def ids(store, *states):
    found = await store.find(Selection("files", states=states or (JobState.WAITING,)))
    return [job.id for job in found.jobs]


async def test_a_full_queue_refuses_and_stores_nothing(store):
    await store.limit("files", Limits(max_waiting=3))
    await store.add([new(number) for number in range(3)])
    before = await everything(store)

    with pytest.raises(QueueFull, match="holds 3 waiting jobs and takes 3 at most, so 2 more") as refused:
        await store.add([new("x", queue="others"), new(3), new(4)])

    assert (refused.value.queue, refused.value.most, refused.value.waiting, refused.value.wanted) == ("files", 3, 3, 2)
    assert not refused.value.may_wait
    assert await everything(store) == before
    assert await store.get("others", ["x"]) == [None]


@pytest.mark.parametrize("most", [1, 5])
async def test_an_add_of_more_than_fits_is_refused_whole(store, most):
    await store.limit("files", Limits(max_waiting=most))

    with pytest.raises(QueueFull):
        await store.add([new(number) for number in range(most + 1)])

    assert await ids(store) == []
    await store.add([new(number) for number in range(most)])
    assert len(await ids(store)) == most


async def test_a_lone_add_is_refused_too_and_takes_the_room_that_a_claim_makes(store, claim):
    await store.limit("files", Limits(max_waiting=1))
    await store.add([new("a")])
    with pytest.raises(QueueFull):
        await store.add([new("b")])

    await claim()

    assert (await store.add([new("b")]))[0].created
    assert await figures(store) == {"active": 1, "waiting": 1}


async def test_a_known_id_and_a_held_dedup_key_need_no_room(store):
    await store.limit("files", Limits(max_waiting=1))
    keyed = Options(dedup=Dedup("k"))
    await store.add([new("a", options=keyed)])

    assert [answer.created for answer in await store.add([new("a")])] == [False]
    assert [answer.job.id for answer in await store.add([new("b", options=keyed)])] == ["a"]
    with pytest.raises(QueueFull):
        await store.add([new("c", options=Options(dedup=Dedup("other")))])
    assert [answer.created for answer in await store.add([new("c", options=Options(dedup=Dedup("k")))])] == [False]


async def test_delayed_jobs_do_not_count_and_may_come_all_the_same(store, clock):
    await store.limit("files", Limits(max_waiting=2))
    await store.add([new("a"), new("b")])

    await store.add([new(number, delay=5) for number in range(10)])
    clock.advance(5)
    assert await store.promote() == 10

    assert await figures(store) == {"waiting": 12}
    with pytest.raises(QueueFull, match="holds 12"):
        await store.add([new("c")])
    await store.add([new("c", delay=1)])


async def test_what_comes_back_is_never_refused(store, claim, clock):
    await store.limit("files", Limits(max_waiting=1))
    back = [Retry, Release, Fail]
    for number, _ in enumerate(back):
        await store.add([new(number, options=Options(attempts=5))])
        await claim(lease=10)
    jobs = {job.id: job for job in (await store.find(Selection("files", states=(JobState.ACTIVE,)))).jobs}
    await store.add([new("full")])

    await store.settle([Retry(jobs["0"].lease, 0, BROKEN), Release(jobs["1"].lease), Fail(jobs["2"].lease, BROKEN)])
    await store.retry(Selection("files", ids=("2",)))

    assert await figures(store) == {"waiting": 4}


async def test_jobs_that_their_keys_block_count(store):
    await store.limit("files", Limits(max_waiting=3, key_concurrency=1))
    await store.add([new(number, key="acme") for number in range(3)])

    with pytest.raises(QueueFull, match="holds 3"):
        await store.add([new("x", key="acme")])
    with pytest.raises(QueueFull, match="holds 3"):
        await store.add([new("y")])

    assert await figures(store) == {"waiting": 1, "blocked": 2}


async def test_the_oldest_of_the_lowest_priority_are_dropped_to_make_room(store, clock):
    await store.limit("files", Limits(max_waiting=4, when_full=DROP))
    await store.add([new("old-high", priority=5), new("old-low"), new("low", name="crop")])
    clock.advance(1)
    await store.add([new("mid", priority=2)])

    found = await store.add([new("x"), new("y", priority=9)])

    assert [answer.created for answer in found] == [True, True]
    assert sorted(await ids(store)) == ["mid", "old-high", "x", "y"]
    removed = [event.job_id for event in await events(store) if event.kind == "removed"]
    assert removed == ["old-low", "low"] or sorted(removed) == ["low", "old-low"]
    assert await figures(store) == {"waiting": 4}


async def test_of_more_than_fit_the_last_are_left(store):
    await store.limit("files", Limits(max_waiting=3, when_full=DROP))

    await store.add([new(number) for number in range(5)])

    assert await ids(store) == ["2", "3", "4"]


async def test_a_dropped_job_makes_room_in_the_line_of_its_key_and_lets_its_dedup_key_go(store, claim):
    await store.limit("files", Limits(max_waiting=2, when_full=DROP, key_concurrency=1))
    await store.add([new("a", key="acme", options=Options(dedup=Dedup("k"))), new("b", key="acme")])

    await store.add([new("c")])

    assert [job.id for job in await claim(5)] == ["c", "b"] or await figures(store) == {"active": 2}
    assert (await store.add([new("d", options=Options(dedup=Dedup("k")))]))[0].created


async def test_where_who_adds_shall_wait_it_is_told_so(store):
    await store.limit("files", Limits(max_waiting=1, when_full=WAIT))
    await store.add([new("a")])

    with pytest.raises(QueueFull) as refused:
        await store.add([new("b")])

    assert refused.value.may_wait


async def test_a_bound_may_be_changed_and_taken_away(store):
    await store.limit("files", Limits(max_waiting=1))
    await store.add([new("a")])
    with pytest.raises(QueueFull):
        await store.add([new("b")])

    await store.limit("files", Limits(max_waiting=2))
    await store.add([new("b")])
    await store.limit("files", NO_LIMITS)
    await store.add([new(number) for number in range(10)])
    await store.limit("files", Limits(max_waiting=5))

    with pytest.raises(QueueFull, match=r"holds 12 .* takes 5"):
        await store.add([new("c")])


async def test_schedules_are_never_refused(store):
    [its] = await put(store, kept())
    await store.limit("files", Limits(max_waiting=1))
    await store.add([new("a")])

    assert await store.fire([firing(its)]) == [1]
    assert await figures(store) == {"waiting": 2}


async def test_what_is_remembered_until_a_job_ends_is_never_refused(store, claim):
    await store.add([new("a", options=Options(dedup=Dedup("k")))])
    [job] = await claim()
    await store.add([new("b", options=Options(dedup=Dedup("k", then="keep-last")))])
    await store.limit("files", Limits(max_waiting=1))
    await store.add([new("full")])

    assert await store.settle([Complete(job.lease)]) == []

    assert await figures(store) == {"completed": 1, "waiting": 2}


@pytest.mark.parametrize("full", [WhenFull.REJECT, DROP])
async def test_no_more_wait_than_may_whoever_adds_at_once(shared, another, full):
    _, store = shared
    await store.limit("files", Limits(max_waiting=10, when_full=full))

    answers = await asyncio.gather(
        *((store, another)[number % 2].add([new(f"{number}-{n}") for n in range(3)]) for number in range(20)),
        return_exceptions=True,
    )

    stored = [answer for answer in answers if isinstance(answer, list)]
    assert all(isinstance(answer, list | QueueFull) for answer in answers)
    assert len(stored) == (3 if full is WhenFull.REJECT else 20)
    assert len(await ids(store)) == (9 if full is WhenFull.REJECT else 10)
    assert await store.audit() == []


async def test_no_more_wait_than_may_whatever_processes_do(shared):
    url, store = shared
    await store.limit("files", Limits(max_waiting=7))

    async with asyncio.timeout(60):
        lines = await asyncio.gather(
            *(finished("tests.store.process_dedup", "fill", url, f"p{number}", 20) for number in range(3)),
        )

    told = [words for process in lines for words in process]
    assert sorted({words[0] for words in told}) == ["refused", "stored"]
    assert len([words for words in told if words[0] == "stored"]) == len(await ids(store)) == 7
    assert await store.audit() == []
