"""The fixtures of the suite of stores: a store, its clock, and short words for what every test does."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from muskox.core.job import Job, NewJob, Options
from muskox.store import open_store
from muskox.store.protocol import Store, Want
from muskox.testing import FakeWorld
from tests.stores import SHARED, STORES


@pytest.fixture
def clock() -> FakeWorld:
    """The clock of the store: it stands still until the test moves it."""
    return FakeWorld(seed=1)


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeWorld) -> AsyncIterator[Store]:
    """An open, empty store; every test of the suite runs on each there is."""
    async with STORES[request.param](tmp_path, clock) as (_, opened):
        yield opened


@pytest.fixture(params=SHARED)
async def shared(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeWorld) -> AsyncIterator[tuple[str, Store]]:
    """URL and store, where others can open the same store at the same time."""
    async with SHARED[request.param](tmp_path, clock) as (url, opened):
        yield url, opened


@pytest.fixture
async def another(shared: tuple[str, Store], clock: FakeWorld) -> AsyncIterator[Store]:
    """A second store object on the same database."""
    other = open_store(shared[0], clock)
    await other.open()
    yield other
    await other.close()


Adder = Callable[..., Awaitable[Job]]


@pytest.fixture
def add(store: Store) -> Adder:
    """Add one job and give it as it was stored: `await add("resize", priority=5)`."""
    return adder(store)


def adder(store: Store) -> Adder:
    numbers = itertools.count(1)

    async def add(name: str = "resize", *, queue: str = "files", id: str | None = None, **fields: object) -> Job:
        options = Options(**{key: fields.pop(key) for key in list(fields) if key in Options.__struct_fields__})
        new = NewJob(id or f"job-{next(numbers)}", queue, name, options=options, **fields)
        [added] = await store.add([new])
        return added.job

    return add


Claimer = Callable[..., Awaitable[list[Job]]]


@pytest.fixture
def claim(store: Store) -> Claimer:
    """Claim from one queue: `await claim(2)`."""
    return claimer(store)


def claimer(store: Store) -> Claimer:
    async def claim(
        limit: int = 1,
        *,
        queue: str = "files",
        names: frozenset[str] | None = None,
        worker: str = "worker-a",
        lease: float = 30,
    ) -> list[Job]:
        return await store.claim([Want(queue, names)], limit=limit, worker=worker, lease=lease)

    return claim


@pytest.fixture
def few_events(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have stores keep so few events that trimming can be seen; each names the limit of its own here."""
    monkeypatch.setattr("muskox.store.sqlite.upkeep._MOST_EVENTS", 10)
    monkeypatch.setattr("muskox.store.redis.steps._MOST_EVENTS", 10)
    monkeypatch.setattr("muskox.store.postgres.store.MOST_EVENTS", 10)
    return 10
