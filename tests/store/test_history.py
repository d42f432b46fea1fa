"""Figures of the past: they add up over workers and minutes, samples are taken by one, and old ones are forgotten."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.errors import OptionError
from muskox.core.history import KEPT, MEASURED, Cell, Sample, Sums
from muskox.core.job import NewJob
from muskox.store.protocol import Packed, Selection

MINUTE = 60


async def minutes(store, *, seconds=3600.0, **asked) -> list[Cell]:
    return (await store.history(MINUTE, seconds=seconds, **asked)).cells


def at_a_whole_hour(clock) -> int:
    clock.advance(3600 - clock.now() % 3600)
    return round(clock.now()) * 1_000_000


async def test_what_workers_count_in_a_minute_adds_up(store, clock):
    begin = at_a_whole_hour(clock)
    await store.record([Sums("email", "", {"failed": 3, "r508": 2}), Sums("files", "", {"failed": 1})])
    clock.advance(59)
    await store.record([Sums("email", "", {"failed": 4, "r508": 1, "r510": 5})])
    clock.advance(1)
    await store.record([Sums("email", "", {"completed": 9})])

    assert await minutes(store) == [
        Cell("email", "", begin, MINUTE, {"failed": 7, "r508": 3, "r510": 5}),
        Cell("files", "", begin, MINUTE, {"failed": 1}),
        Cell("email", "", begin + 60_000_000, MINUTE, {"completed": 9}),
    ]
    assert (await store.history(3600, seconds=1)).cells == [
        Cell("email", "", begin, 3600, {"failed": 7, "r508": 3, "r510": 5, "completed": 9}),
        Cell("files", "", begin, 3600, {"failed": 1}),
    ]


async def test_the_clock_of_the_store_is_told(store, clock):
    assert (await store.history(MINUTE, seconds=60)).now_us == int(clock.now() * 1_000_000)


async def test_one_queue_and_the_names_in_it_can_be_asked_for(store):
    strange = 'a"} \\ : \u2603'
    await store.record(
        [Sums("email", "", {"failed": 3}), Sums("email", strange, {"failed": 3}), Sums("files", "", {"failed": 1})]
    )

    assert [cell.queue for cell in await minutes(store, queue="email")] == ["email"]
    [cell] = await minutes(store, queue="email", names=True)
    assert (cell.name, cell.failed) == (strange, 3)
    assert await minutes(store, queue="nowhere") == []


async def test_samples_are_taken_once_in_ten_seconds_whoever_offers_them(store, clock):
    at_a_whole_hour(clock)
    first = Sample("files", 6, 1, 0, 2, 9, oldest=4.5)

    assert await store.record([], [first])
    assert not await store.record([Sums("files", "", {"failed": 1})], [Sample("files", 50, 0, 0, 0, 50)])
    clock.advance(10)
    assert await store.record([], [Sample("files", 2, 0, 0, 2, 11, oldest=2.0)])

    [cell] = await minutes(store)
    assert (cell.failed, cell.waiting, cell.most_waiting, cell.oldest) == (1, 4.0, 6, 4.5)
    assert cell.added == 11


async def test_what_was_added_is_counted_once_by_many_workers_at_a_time(store, clock):
    await asyncio.gather(*(store.record([], [Sample("files", 1, 0, 0, 0, 5)]) for _ in range(8)))
    clock.advance(60)
    await asyncio.gather(*(store.record([], [Sample("files", 1, 0, 0, 0, 8)]) for _ in range(8)))

    assert [cell.added for cell in await minutes(store)] == [5, 3]
    assert [cell.sums["samples"] for cell in await minutes(store)] == [1, 1]


async def test_every_job_that_was_ever_added_is_in_the_figures(store, add, claim):
    await add()
    await add(delay=60)
    await add("convert")
    await add(id="a")
    await add(id="a")  # is known
    [job] = await claim(names=frozenset({"convert"}))
    await store.remove(Selection("files", ids=("a",)))
    [packed] = [Packed(job.__class__(**{**_fields(job), "id": "moved", "state": "waiting", "lease": None}), 1)]
    await store.adopt([packed])

    [counts] = await store.counts(["files"])

    assert (counts.added, counts.total) == (5, 4)


def _fields(job):
    return {name: getattr(job, name) for name in job.__struct_fields__}


async def test_a_claim_tells_how_long_a_job_had_waited(store, clock, add, claim):
    await add(id="first")
    clock.advance(2)
    await add(id="second", delay=5)
    clock.advance(6)
    await store.promote()
    clock.advance(1)

    waited = {job.id: job.waited for job in await claim(2)}

    assert waited["first"] == 9.0
    assert 1.0 <= waited["second"] <= 2.0  # since it was due, or found to be


async def test_of_many_claimed_jobs_at_least_those_that_are_measured_tell_it(store, clock, add, claim):
    await store.add([NewJob(f"job-{number}", "files", "resize") for number in range(40)])
    clock.advance(3)

    jobs = await claim(40)

    waited = [job.waited for job in jobs[:: 40 // MEASURED + 1]]
    assert waited == [pytest.approx(3, abs=0.001)] * 4


async def test_cells_are_forgotten_when_their_time_is_over(store, clock):
    begin = at_a_whole_hour(clock) / 1_000_000
    await store.record([Sums("files", "", {"failed": 1})], [NOTHING])
    for step, kept in sorted(KEPT.items()):
        clock.advance(begin + kept - 30 - clock.now())
        await store.record([], [NOTHING])
        assert await starts(store, step, kept) == 1

        clock.advance(2 * step + 30)
        await store.record([], [NOTHING])
        assert await starts(store, step, 10 * kept) == 0


NOTHING = Sample("files", 0, 0, 0, 0, 0)


async def starts(store, step, seconds) -> int:
    return sum(cell.failed for cell in (await store.history(step, seconds=seconds)).cells)


async def test_there_are_cells_of_three_sizes(store):
    with pytest.raises(OptionError, match="one of 60, 600, 3600 seconds"):
        await store.history(61, seconds=60)


async def test_history_is_in_the_store_and_not_in_the_process(shared, another):
    _, store = shared
    await store.record([Sums("files", "", {"completed": 4})])

    [cell] = await minutes(another)

    assert cell.completed == 4
