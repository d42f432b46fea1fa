"""The application of the outbox's tests: its own database, and a store that has no part in its transactions."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from muskox import Muskox
from muskox.contrib.outbox import Outbox
from muskox.core.life import Complete
from muskox.core.seam import World
from muskox.runtime.world import RealWorld
from muskox.store.protocol import Store, Want
from muskox.testing import FakeWorld
from tests import engines
from tests.servers import postgres
from tests.stores import SHARED

STORES = [kind for kind in ("sqlite", "redis", "postgres") if kind in SHARED]
_numbers = itertools.count(1)


@dataclass
class Database:
    """Where the application keeps its rows."""

    url: str
    table: str

    @property
    def users(self) -> str:
        return f"{self.table}_users"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of the application's, without our tables."""
    if request.param == "sqlite":
        yield Database(f"sqlite:///{tmp_path}/shop.db", "muskox_outbox")
        return
    found = Database(postgres.shared_url(), f"outbox_{os.getpid()}_{next(_numbers)}")
    yield found
    engine = engines.engine(found.url)
    with engine.begin() as tx:
        for table in (found.table, f"{found.table}_relay", found.users):
            tx.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
    engine.dispose()


@pytest.fixture
def engine(database: Database) -> Iterator[sa.Engine]:
    made = engines.engine(database.url)
    with made.begin() as tx:
        tx.execute(sa.text(f"CREATE TABLE {database.users} (name VARCHAR(50))"))
    yield made
    made.dispose()


@pytest.fixture
async def async_engine(engine: sa.Engine, database: Database) -> AsyncIterator[AsyncEngine]:
    made = engines.async_engine(database.url)
    yield made
    await made.dispose()


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store the jobs are in."""
    return str(request.param)


@pytest.fixture
def world() -> World:
    return RealWorld()


@pytest.fixture
def clock(world: World) -> FakeWorld:
    assert isinstance(world, FakeWorld), "a test that moves the clock hands in a world"
    return world


@pytest.fixture
async def ox(kind: str, tmp_path: Path, world: World) -> AsyncIterator[Muskox]:
    async with SHARED[kind](tmp_path, world) as (url, store), Muskox(url, world=world) as app:
        yield app
        assert await store.audit() == []


@pytest.fixture
async def outbox(ox: Muskox, engine: sa.Engine, database: Database) -> Outbox:
    made = Outbox(ox, engine, name=database.table)
    await made.create_tables()
    return made


@dataclass
class Herd:
    """A worker that runs what it can get, and keeps nothing of it."""

    store: Store
    ran: Counter[str] = field(default_factory=Counter)

    async def run(self, queue: str = "email") -> Counter[str]:
        while jobs := await self.store.claim([Want(queue)], limit=50, worker="w", lease=3600):
            self.ran.update(job.id for job in jobs)
            await self.store.settle([Complete(job.lease, keep=0) for job in jobs if job.lease])
        return self.ran


@pytest.fixture
async def herd(ox: Muskox) -> Herd:
    return Herd(await ox.store())


def rows(engine: sa.Engine, table: Any) -> int:
    """How many rows a table has."""
    with engine.connect() as tx:
        found: int = tx.execute(sa.select(sa.func.count()).select_from(sa.text(str(table)))).scalar_one()
    return found
