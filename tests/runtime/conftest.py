"""The fixtures of the runtime's tests: an app in memory, one on a file, one on a store that fails on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muskox import Muskox
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from tests.runtime.flaky import FlakyStore
from tests.runtime.helpers import clean, on_store
from tests.servers.valkey import fresh_prefix, shared_server


@pytest.fixture
async def ox() -> AsyncIterator[Muskox]:
    """An app whose jobs are in memory; at its end its store must be sound."""
    async with Muskox("sqlite://:memory:") as app:
        yield app
        assert await clean(app)


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where others may open the same jobs too."""
    if request.param == "redis":
        return f"{shared_server().url}?prefix={fresh_prefix()}"
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
async def filed(url: str) -> AsyncIterator[Muskox]:
    """An app whose jobs are where others may open them too."""
    async with Muskox(url) as app:
        yield app
        assert await clean(app)


@pytest.fixture
async def flaky() -> AsyncIterator[FlakyStore]:
    """A store in memory that fails when it is told to."""
    store = FlakyStore(open_store("sqlite://:memory:", RealWorld()))
    await store.open()
    yield store
    store.away = False
    assert await store.audit() == []
    await store.close()


@pytest.fixture
def shaky(flaky: FlakyStore) -> Muskox:
    """An app on the flaky store."""
    return on_store(flaky)
