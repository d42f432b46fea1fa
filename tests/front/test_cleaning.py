"""Ended jobs are deleted by age, oldest first, on every store that several processes can use."""

from __future__ import annotations

import pytest

from muskox import Muskox, OptionError
from muskox.testing import FakeWorld
from tests.stores import SHARED


@pytest.fixture(params=[name for name in SHARED if name in {"sqlite", "postgres", "redis"}])
async def ox(request, tmp_path, world):
    async with SHARED[request.param](tmp_path, world) as (url, _), Muskox(url, world=world) as app:
        yield app


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(seed=1)


async def test_jobs_that_ended_long_ago_are_deleted_and_younger_ones_stay(ox, world):
    files = ox.queue("files")
    await files.add_many([files.new("old", id=f"old-{number}") for number in range(130)])
    await files.cancel_all("old")
    world.advance(100)
    for id in ("young", "waits"):
        await files.add("new", id=id)
    await files.cancel("young")
    world.advance(10)

    assert await files.clean() == 0
    assert await files.clean("cancelled", older_than=50) == 130
    assert await files.clean("cancelled", older_than=50) == 0

    assert {job.id for job in (await files.find()).jobs} == {"young", "waits"}
    assert await files.clean(["cancelled", "failed"]) == 1
    assert [job.id for job in (await files.find()).jobs] == ["waits"]
    assert await ox.audit() == []


async def test_what_has_not_ended_is_never_cleaned(ox):
    with pytest.raises(OptionError, match="have ended"):
        await ox.queue("files").clean("waiting")
    with pytest.raises(OptionError, match="older_than"):
        await ox.queue("files").clean(older_than=-1)
