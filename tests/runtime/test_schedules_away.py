"""A store goes away under a running scheduler and comes back: a server is killed, cut off, or a file is locked."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from muskox import Muskox, Told
from tests.proxy import Proxy
from tests.runtime.helpers import LIMIT, clean, until
from tests.servers import postgres
from tests.servers.valkey import running

Switch = Callable[[], object]
STEP = 100_000


@contextmanager
def locked(folder: Path) -> Iterator[tuple[str, str, Switch, Switch]]:
    file = folder / "jobs.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        url = f"sqlite:///{file}"
        yield url, url, lambda: db.execute("BEGIN IMMEDIATE"), lambda: db.execute("ROLLBACK")


@contextmanager
def killed(_: Path) -> Iterator[tuple[str, str, Switch, Switch]]:
    with running("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server.url, server.url, server.kill, server.start


@contextmanager
def cut_off(_: Path) -> Iterator[tuple[str, str, Switch, Switch]]:
    with postgres.schema(postgres.shared_url()) as url:
        parts = urlsplit(url)
        with Proxy(str(parts.hostname), parts.port or 0) as proxy:
            here = url.replace(f"{parts.hostname}:{parts.port}", proxy.address)
            yield here, url, lambda: (proxy.refuse(), proxy.cut()), proxy.heal


@pytest.mark.parametrize("weather", [locked, killed, cut_off], ids=["sqlite", "redis", "postgres"])
async def test_a_store_that_was_away_is_caught_up_by_the_policy(weather, tmp_path):
    """The worker has the URL that goes away; looked at is the store behind it."""
    with weather(tmp_path) as (url, behind, take_away, give_back):
        async with Muskox(url) as ox, Muskox(behind) as watcher, asyncio.timeout(LIMIT):

            @ox.every(0.1, catch_up=2, grace=0.2)
            async def beat() -> None: ...

            async def ledger() -> list:
                return list(reversed(await watcher.schedules.ledger("beat")))

            async with ox.worker():
                while len(before := await ledger()) < 3:  # noqa: ASYNC110 - facts of others set no event
                    await asyncio.sleep(0.02)
                take_away()
                left = time.time()
                await until(lambda: time.time() > left + 1.0)
                give_back()
                while all(entry.missed < 5 for entry in await ledger()):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            told = await ledger()
            assert await clean(watcher)

    [missed] = [number for number, entry in enumerate(told) if entry.missed >= 5]
    assert [entry.told for entry in told[missed + 1 : missed + 3]] == [Told.LATE, Told.LATE]
    assert told[: len(before)] == before
    assert sum(entry.missed or 1 for entry in told) == (told[-1].moment_us - told[0].moment_us) // STEP + 1
