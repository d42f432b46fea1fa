"""What a store says about its server or file and its settings."""

from __future__ import annotations

from pathlib import Path

import psycopg

from muskox.core.job import JobState
from muskox.store.protocol import Selection, Store
from muskox.testing import FakeWorld
from tests.store.conftest import Adder
from tests.stores import SHARED, STORES


async def test_a_store_can_be_examined_and_nothing_changes(store: Store, add: Adder) -> None:
    await add()
    [before] = await store.events(after=-1)

    found = await store.examine()

    assert found
    assert all(check.what for check in found)
    assert all(check.remedy for check in found if not check.sound)
    [after] = await store.events(after=-1)
    assert (after.offset, await store.audit()) == (before.offset, [])
    assert len((await store.find(Selection("files", states=(JobState.WAITING,)))).jobs) == 1


async def test_the_file_of_sqlite_is_in_order(tmp_path: Path, clock: FakeWorld) -> None:
    async with SHARED["sqlite"](tmp_path, clock) as (_, store):
        found = await store.examine()

    assert [check.what for check in found if not check.sound] == []
    said = " ".join(check.what for check in found)
    for words in ("SQLite 3.", "journal mode wal, durability default", "write-ahead log", "the disk has"):
        assert words in said


async def test_a_redis_without_its_file_is_told_of(tmp_path: Path, clock: FakeWorld) -> None:
    async with STORES["redis"](tmp_path, clock) as (_, store):
        found = await store.examine()

    wrong = {check.what: check.remedy for check in found if not check.sound}
    assert any("append-only file is off" in what and "appendonly yes" in wrong[what] for what in wrong)
    assert any("clocks" in what for what in wrong)  # the clock of the test stands elsewhere
    assert "maxmemory-policy is noeviction" in [check.what for check in found if check.sound]


async def test_tables_of_postgres_without_vacuum_are_told_of(tmp_path: Path, clock: FakeWorld) -> None:
    async with SHARED["postgres"](tmp_path, clock) as (url, store):
        sound = {check.what for check in await store.examine() if check.sound}
        plain, _, query = url.partition("?")
        schema = dict(part.split("=", 1) for part in query.split("&")).get("schema", "muskox")
        where = "&".join(part for part in query.split("&") if not part.startswith("schema="))
        async with await psycopg.AsyncConnection.connect(f"{plain}?{where}", autocommit=True) as other:
            await other.execute(f"ALTER TABLE {schema}.jobs SET (autovacuum_enabled = false)")
            wrong = {check.what: check.remedy for check in await store.examine() if not check.sound}
            await other.execute(f"ALTER TABLE {schema}.jobs RESET (autovacuum_enabled)")

    assert "autovacuum is on" in sound
    assert "RESET (autovacuum_enabled)" in wrong["autovacuum is off for the table jobs"]
