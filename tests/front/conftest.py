"""The fixtures of the front's tests: a world whose clock stands still, an app in memory, an app on a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muskox import AppQueue, Muskox
from muskox.testing import FakeWorld


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(seed=1)


@pytest.fixture
async def ox(world: FakeWorld) -> AsyncIterator[Muskox]:
    """An app whose jobs are in memory; at its end the store must be sound."""
    async with Muskox("sqlite://:memory:", world=world) as app:
        yield app
        assert await app.audit() == []


@pytest.fixture
def emails(ox: Muskox) -> AppQueue:
    return ox.queue("email")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where an app may keep jobs that others see too."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
async def filed(url: str) -> AsyncIterator[Muskox]:
    """An app in the real world whose jobs are in a file."""
    async with Muskox(url) as app:
        yield app
        assert await app.audit() == []
