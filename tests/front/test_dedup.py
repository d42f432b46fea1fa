"""Dedup keys as programs say them: on queues and processors, in schedules, from blocking code, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from muskox import Dedup, Duplicate, JobState, Muskox, OptionError
from muskox.testing import FakeWorld, run_jobs
from tests.stores import STORES


@pytest.fixture(params=STORES)
async def ox(request: pytest.FixtureRequest, tmp_path: Path, world: FakeWorld) -> AsyncIterator[Muskox]:
    async with STORES[request.param](tmp_path, world) as (url, store):
        app = Muskox(url, world=world)
        app._new_store = lambda: store  # type: ignore[method-assign]
        yield app
        assert await store.audit() == []


async def test_a_text_is_a_key_that_counts_until_the_job_has_ended(ox):
    reports = ox.queue("reports")
    seen = []

    @reports.processor("build")
    async def build(year: int) -> None:
        seen.append(year)

    first = await build.options(dedup="2026").add(2026)
    second = await reports.add("build", {"year": 2027}, dedup="2026")
    await run_jobs(ox)
    third = await reports.add("build", {"year": 2028}, dedup="2026")

    assert first.id == second.id != third.id
    assert first.options.dedup == Dedup("2026")
    assert seen == [2026]


async def test_a_refused_job_says_which_one_is_there(ox):
    reports = ox.queue("reports")
    first = await reports.add("build", dedup=Dedup("2026", then="reject"))

    with pytest.raises(Duplicate) as refused:
        await reports.add_many([reports.new("other"), reports.new("build", dedup=Dedup("2026", then="reject"))])

    assert refused.value.job_id == first.id
    assert "then='existing' gives that job" in str(refused.value)
    assert (await reports.counts()).states[JobState.WAITING] == 1


async def test_a_search_index_is_built_again_once_for_all_that_came_while_it_was_being_built(ox):
    """keep-last: while one runs, others come from within the run and from outside."""
    index = ox.queue("index")
    built = []

    @index.processor("build")
    async def build(version: int) -> None:
        built.append(version)
        if version == 1:
            for later in (2, 3, 4):
                await build.options(dedup=Dedup("index", then="keep-last")).add(later)

    await build.options(dedup=Dedup("index", then="keep-last")).add(1)
    await run_jobs(ox)

    assert built == [1, 4]


async def test_a_throttled_job_is_added_once_in_its_window(ox, world):
    alerts = ox.queue("alerts")
    once = Dedup("disk full", window=timedelta(minutes=10))

    sent = []
    for _ in range(5):
        sent.append((await alerts.add("send", dedup=once)).id)
        world.advance(180)

    assert sent[0] == sent[1] == sent[2] == sent[3] != sent[4]


async def test_a_debounced_job_waits_until_nothing_has_come_for_a_while(ox, world):
    mirror, saved = ox.queue("mirror"), []

    @mirror.processor("save")
    async def save(text: str) -> None:
        saved.append(text)

    for text in ("a", "ab", "abc"):
        await mirror.add("save", {"text": text}, delay=5, dedup=Dedup("doc-1", until="started", then="replace"))
        world.advance(4)
        await run_jobs(ox)
    world.advance(5)
    await run_jobs(ox)

    assert saved == ["abc"]


async def test_a_schedule_adds_nothing_while_its_last_job_is_there(ox, world):
    added = await ox.schedules.add_every("tick", 10, queue="ticks", job="tick", dedup="tick", expires_in=60)
    assert added.schedule.options.dedup == Dedup("tick")
    assert added.schedule.options.expires_in == 60

    await ox.schedules.run_now("tick")
    await ox.schedules.run_now("tick")

    assert (await ox.queue("ticks").counts()).states[JobState.WAITING] == 1


async def test_keys_move_along(world):
    async with Muskox("sqlite://:memory:", world=world) as old, Muskox("sqlite://:memory:", world=world) as ox:
        first = await old.queue("reports").add("build", dedup="2026")
        await old.move_to(ox)

        assert (await ox.queue("reports").add("build", dedup="2026")).id == first.id
        assert await ox.audit() == []


async def test_blocking_code_and_many_tasks_say_the_same(world):
    async with Muskox("sqlite://:memory:", world=world) as ox:
        reports = ox.queue("reports")
        found = await asyncio.gather(*(asyncio.to_thread(reports.sync.add, "build", dedup="2026") for _ in range(8)))
        assert len({job.id for job in found}) == 1
        with pytest.raises(Duplicate):
            await asyncio.to_thread(reports.sync.add, "build", dedup=Dedup("2026", then="reject"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (5, "must be a Dedup or a key"),
        ("", "dedup key ''"),
        ("x" * 10_000, "of longer ones a hash"),
        ("a\nb", "printable"),
    ],
)
async def test_bad_input_what_is_no_key_is_refused(said, told):
    with pytest.raises(OptionError, match=told):
        Muskox("sqlite://:memory:").queue("reports").new("build", dedup=said)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"until": "failed"}, "until of a dedup rule must be one of started, ended"),
        ({"then": "panic"}, "then of a dedup rule must be one of existing, reject, replace, keep-last"),
        ({"window": 0}, "window must be more than 0"),
        ({"window": float("nan")}, "window must be more than 0"),
        ({"window": 5, "until": "started"}, "give one of them"),
        ({"window": 5, "then": "keep-last"}, "keep-last"),
        ({"until": "started", "then": "keep-last"}, "keep-last"),
    ],
)
def test_bad_input_a_rule_that_cannot_be_meant_is_refused(said, told):
    with pytest.raises(OptionError, match=told):
        Dedup("k", **said)


async def test_a_schedule_cannot_refuse(world):
    async with Muskox("sqlite://:memory:", world=world) as ox:
        with pytest.raises(OptionError, match="nobody to tell"):
            await ox.schedules.add_every("tick", 10, queue="a", job="b", dedup=Dedup("k", then="reject"))
        with pytest.raises(OptionError, match="jitter"):
            await ox.schedules.add_every("tick", 10, queue="a", job="b", expires_in=5, jitter=5)
