"""The next release of Muskox, as far as its tables go: `python -m tests.store.process_next URL READER NUMBER`.

It has one more migration, after which only releases may work that know the migrations up to READER. NUMBER is what it
waits for half way: on PostgreSQL an advisory lock that the test holds, on SQLite a line on its input; 0: nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.sql import Migration
from tests.store.process import say

NAME = "9000"


def on_sqlite(reader: str, number: int) -> None:
    from muskox.store.sqlite import schema

    known = schema.migrations

    def statements() -> Iterator[str]:
        yield "CREATE TABLE next_one (a INTEGER)"
        if number:
            say("half")
            sys.stdin.readline()
        yield "ALTER TABLE next_one ADD COLUMN b INTEGER"

    schema.migrations = lambda package: [*known(package), Migration(NAME, statements(), reader)]  # type: ignore[arg-type]


def on_postgres(reader: str, number: int) -> None:
    from muskox.store.postgres import schema

    wait = f"SELECT pg_advisory_xact_lock({number});" if number else ""
    schema._FILES[NAME] = f"""
-- readers: {reader}
CREATE TABLE muskox.next_one (a integer);
{wait}
ALTER TABLE muskox.next_one ADD COLUMN b integer;
"""


async def main(url: str, reader: str, number: str) -> None:
    (on_sqlite if url.startswith("sqlite") else on_postgres)(reader, int(number))
    store = open_store(url, RealWorld())
    await store.open()
    say("open", *await store.migrate())
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
