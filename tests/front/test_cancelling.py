"""Cancelling many jobs by name, state and age, on every store there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from muskox import Job, JobState, Muskox, OptionError
from muskox.core.life import Complete, Release
from muskox.store.protocol import Want
from muskox.testing import FakeWorld
from tests.stores import STORES


@pytest.fixture(params=STORES)
async def ox(request: pytest.FixtureRequest, tmp_path: Path, world: FakeWorld) -> AsyncIterator[Muskox]:
    async with STORES[request.param](tmp_path, world) as (url, store):
        app = Muskox(url, world=world)
        app._new_store = lambda: store  # type: ignore[method-assign]
        yield app
        assert await store.audit() == []


async def states(ox: Muskox) -> dict[str, str]:
    return {job.id: job.state.value for job in (await ox.queue("files").find(limit=1000)).jobs}


async def filled(ox: Muskox, world: FakeWorld) -> datetime:
    """A running, a waiting and a delayed job; then a moment passes, and three more; gives the moment between."""
    files, store = ox.queue("files"), await ox.store()
    await files.add("resize", id="runs", priority=9)
    await store.claim([Want("files")], limit=1, worker="w", lease=3600)
    await files.add("resize", id="waits")
    delayed = await files.add("convert", id="delayed", delay=600)
    world.advance(10)
    for id in ("new", "newer"):
        await files.add("resize", id=id, priority=5)
    await files.add("convert", id="new-delayed", delay=1)
    return delayed.added_at + timedelta(seconds=5)


async def test_old_jobs_are_cancelled_waiting_delayed_and_running_and_new_ones_are_left(ox, world):
    before = await filled(ox, world)

    assert await ox.queue("files").cancel_all(added_before=before) == 3

    assert {id for id, state in (await states(ox)).items() if state == "cancelled"} == {"runs", "waits", "delayed"}
    assert await ox.queue("files").cancel_all(added_before=before) == 0


async def test_state_and_name_narrow_it_down(ox, world):
    before, files = await filled(ox, world), ox.queue("files")

    assert await files.cancel_all(state="waiting", added_before=before) == 1
    assert await files.cancel_all("convert", added_before=before) == 1
    assert await files.cancel_all("convert", state=["waiting", JobState.DELAYED]) == 1
    assert await files.cancel_all(state="active") == 1

    assert {id for id, state in (await states(ox)).items() if state != "cancelled"} == {"new", "newer"}


async def test_more_than_a_page_is_cancelled_though_new_ones_stand_in_front(ox, world):
    files = ox.queue("files")
    await files.add_many([files.new("resize", number) for number in range(450)])
    world.advance(10)
    last = await files.add("resize", id="last")
    await files.add_many([files.new("resize", number, priority=5) for number in range(450)])

    assert await files.cancel_all(added_before=last.added_at) == 450

    assert (await files.counts()).waiting == 451


async def test_fault_q09_a_cancelled_run_can_write_nothing_and_what_has_ended_stays(ox, world):
    files, store = ox.queue("files"), await ox.store()
    for id in ("done", "runs", "released"):
        await files.add("resize", id=id)
    runs: dict[str, Job] = {job.id: job for job in await store.claim([Want("files")], limit=3, worker="w", lease=3600)}
    await store.settle([Complete(runs["done"].lease)])

    assert await files.cancel_all() == 2
    lost = await store.settle([Complete(runs["runs"].lease), Release(runs["released"].lease)])

    assert lost == [runs["runs"].lease, runs["released"].lease]
    assert await states(ox) == {"done": "completed", "runs": "cancelled", "released": "cancelled"}


async def test_fault_q09_cancelling_and_retrying_at_once_ends_in_one_of_the_two(ox, world):
    files = ox.queue("files")
    added = await files.add_many([("resize", number) for number in range(50)])
    await files.cancel_all()

    await asyncio.gather(*(files.retry_all() for _ in range(2)), *(files.cancel_all() for _ in range(3)))
    await asyncio.gather(*(files.retry(job.id) for job in added[:10]), files.cancel_all(), return_exceptions=True)

    counts = await files.counts()
    assert counts.waiting + counts.states[JobState.CANCELLED] == 50


async def test_what_cannot_be_cancelled_is_an_error(ox, world):
    files = ox.queue("files")

    with pytest.raises(OptionError, match="have ended"):
        await files.cancel_all(state="completed")
    with pytest.raises(OptionError, match="states are"):
        await files.cancel_all(state="gone")
    with pytest.raises(OptionError, match="aware"):
        await files.cancel_all(added_before=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the mistake


async def test_blocking_code_cancels_the_same_way(tmp_path):
    ox = Muskox(f"sqlite:///{tmp_path}/jobs.db")
    files = ox.queue("files")
    job = files.sync.add("resize")

    assert files.sync.cancel_all(state="waiting", added_before=job.added_at + timedelta(seconds=1)) == 1

    ox.sync.close()
