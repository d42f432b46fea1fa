"""The stores that the suite runs on. A store joins by one entry in `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from muskox.core.seam import World
from muskox.store import open_store
from muskox.store.protocol import Store

SetUp = Callable[[Path, World], AbstractAsyncContextManager[tuple[str, Store]]]
"""Called with a folder of its own and the world; gives a URL and a store on it that is open and empty."""


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


STORES: dict[str, SetUp] = {
    "sqlite": _sqlite,
    "sqlite-memory": _sqlite_in_memory,
}

SHARED: dict[str, SetUp] = {"sqlite": _sqlite}
"""Those of them that several processes, or several store objects, can use at once."""
