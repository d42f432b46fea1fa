"""The stores that the suite runs on. A store joins by one entry in `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from weakref import WeakSet

import pytest

from muskox.core.seam import World
from muskox.store import open_store
from muskox.store.protocol import Store
from tests.servers import postgres
from tests.servers.valkey import GIVEN as REDIS_GIVEN
from tests.servers.valkey import fresh_prefix, shared_server, system_binary

SetUp = Callable[[Path, World], AbstractAsyncContextManager[tuple[str, Store]]]
"""Called with a folder of its own and the world; gives a URL and a store on it that is open and empty."""


REPEATED: WeakSet[World] = WeakSet()
"""The worlds of tests that must find everything the same when they are repeated, down to where rows lie."""


@asynccontextmanager
async def _opened(url: str, world: World) -> AsyncIterator[tuple[str, Store]]:
    store = open_store(url, world)
    await store.open()
    try:
        yield url, store
    finally:
        await store.close()


def _sqlite(folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    return _opened(f"sqlite:///{folder}/jobs.db", world)


def _sqlite_in_memory(_folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    return _opened("sqlite://:memory:", world)


def _redis(_folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    url = REDIS_GIVEN or shared_server().url
    return _opened(f"{url}{'&' if '?' in url else '?'}prefix={fresh_prefix()}", world)


def _redis_cluster(_folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    port = shared_server("cluster").port
    return _opened(f"redis+cluster://127.0.0.1:{port}?prefix={fresh_prefix()}", world)


def _redis_7(_folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    return _opened(f"{shared_server('redis7').url}?prefix={fresh_prefix()}&protocol=2", world)


@asynccontextmanager
async def _in_schema(server: str, world: World) -> AsyncIterator[tuple[str, Store]]:
    # Places of rows, by which leases know them, are only the same each time in tables that are new.
    place = postgres.schema if world in REPEATED else postgres.emptied
    with place(server) as url:
        async with _opened(url, world) as opened:
            yield opened


def _postgres(_folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    return _in_schema(postgres.shared_url(), world)


def _postgres_15(_folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    if not postgres.DEBIAN.exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {postgres.DEBIAN}: apt-get install postgresql-15")
    return _in_schema(postgres.debian_url(), world)


def _postgres_pooled(_folder: Path, world: World) -> AbstractAsyncContextManager[tuple[str, Store]]:
    """Through PgBouncer in transaction mode, where nothing is heard and no session remembers anything."""
    if postgres.POOLER is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    return _in_schema(postgres.pooled_url(), world)


STORES: dict[str, SetUp] = {
    "sqlite": _sqlite,
    "sqlite-memory": _sqlite_in_memory,
    "postgres": _postgres,
    "postgres-15": _postgres_15,
    "postgres-pooled": _postgres_pooled,
    "redis": _redis,
    "redis-cluster": _redis_cluster,
}

if system_binary() is not None:
    STORES["redis-7"] = _redis_7

SHARED: dict[str, SetUp] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "postgres-15": _postgres_15,
    "postgres-pooled": _postgres_pooled,
    "redis": _redis,
    "redis-cluster": _redis_cluster,
}
"""Those of them that several processes, or several store objects, can use at once."""
