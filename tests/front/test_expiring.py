"""Jobs that must begin in time: too late they never run, whoever was away meanwhile; on every store there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from muskox import Fixed, JobState, Muskox, OptionError, ReasonKind
from muskox.core.life import Release, Retry
from muskox.store.protocol import Want
from muskox.testing import FakeWorld, run_jobs
from tests.front.helpers import event, until, working
from tests.store.reading import BROKEN
from tests.stores import STORES


@pytest.fixture(params=STORES)
async def ox(request: pytest.FixtureRequest, tmp_path: Path, world: FakeWorld) -> AsyncIterator[Muskox]:
    async with STORES[request.param](tmp_path, world) as (url, store):
        app = Muskox(url, world=world)
        app._new_store = lambda: store  # type: ignore[method-assign]
        yield app
        assert await store.audit() == []


@pytest.fixture
def ran(ox: Muskox) -> list[str]:
    """The data of the jobs that ran."""
    found: list[str] = []

    @ox.queue("codes").processor("send", attempts=3, backoff=Fixed(0))
    async def send(code: str) -> None:
        found.append(code)

    return found


async def test_a_job_that_nobody_began_with_in_time_never_runs_and_fails(ox, world, ran):
    codes = ox.queue("codes")
    await codes.add("send", {"code": "late"}, id="late", expires_in=60)
    await codes.add("send", {"code": "in time"}, expires_in=timedelta(minutes=5))
    await codes.add("send", {"code": "any time"})
    told = (await codes.explain("late")).reasons[-1]
    assert (told.kind, told.at) == (ReasonKind.EXPIRES, (await codes.get("late")).added_at + timedelta(seconds=60))
    world.advance(61)
    assert (await codes.explain("late")).kinds[0] is ReasonKind.EXPIRED

    await run_jobs(ox)

    late = await codes.get("late")
    assert ran == ["in time", "any time"]
    assert (late.state, late.failure.kind) == (JobState.FAILED, "expired")
    assert "60 seconds" in late.failure.message


async def test_what_began_in_time_may_be_tried_again_later(ox, world, ran):
    codes, store = ox.queue("codes"), await ox.store()
    await codes.add("send", {"code": "x"}, expires_in=60)
    [job] = await store.claim([Want("codes")], limit=1, worker="w", lease=30)
    await store.settle([Retry(job.lease, 0, BROKEN)])
    world.advance(61)

    await run_jobs(ox)

    assert ran == ["x"]


async def test_what_was_only_given_back_has_not_begun(ox, world, ran):
    codes, store = ox.queue("codes"), await ox.store()
    await codes.add("send", {"code": "x"}, id="x", expires_in=60)
    [job] = await store.claim([Want("codes")], limit=1, worker="w", lease=30)
    await store.settle([Release(job.lease)])
    world.advance(61)

    await run_jobs(ox)

    assert (ran, (await codes.get("x")).failure.kind) == ([], "expired")


async def test_an_expired_job_that_is_retried_by_hand_runs(ox, world, ran):
    codes = ox.queue("codes")
    await codes.add("send", {"code": "x"}, id="x", expires_in=60)
    world.advance(61)
    await run_jobs(ox)

    await codes.retry("x")
    await run_jobs(ox)

    assert ran == ["x"]


async def test_a_processor_says_it_for_its_jobs_and_a_batch_leaves_the_late_out(ox, world):
    seen: list[list[str]] = []

    @ox.queue("docs").processor(batch=10, expires_in=60)
    async def index(words: list[str]) -> None:
        seen.append(words)

    await index.add("late")
    await index.options(expires_in=600).add("in time")
    world.advance(61)
    await run_jobs(ox)

    assert seen == [["in time"]]
    assert sorted(job.state.value for job in (await ox.queue("docs").find()).jobs) == ["completed", "failed"]


@pytest.mark.parametrize("options", [{"expires_in": 0}, {"expires_in": -1}, {"expires_in": "soon"},
                                     {"expires_in": 60, "delay": 60}])  # fmt: skip
async def test_what_cannot_be_is_refused(options):
    with pytest.raises(OptionError, match="expires_in"):
        Muskox("sqlite://:memory:").queue("codes").new("send", **options)


async def test_a_worker_that_comes_too_late_fails_the_job_and_goes_on(world):
    async with Muskox("sqlite://:memory:", world=world) as ox:
        codes, seen = ox.queue("codes"), []

        @codes.processor("send")
        async def send(code: str) -> None:
            seen.append(code)

        late = await codes.add("send", {"code": "late"}, expires_in=60)
        world.advance(61)
        await codes.add("send", {"code": "new"}, expires_in=60)
        async with working(ox, world):
            assert (await event(codes, "failed")).job_id == late.id
            await until(lambda: seen, world)

        assert seen == ["new"]


async def test_a_worker_that_may_not_run_it_ends_what_is_too_late(world):
    async with Muskox("sqlite://:memory:", world=world) as ox:
        codes = ox.queue("codes")
        ox.queue("others").processor("other")(lambda: None)
        late = await codes.add("send", {"code": "late"}, expires_in=60)
        await codes.pause()
        async with working(ox, world):
            world.advance(61)
            assert (await event(codes, "failed")).job_id == late.id

        assert (await codes.get(late.id)).failure.kind == "expired"
