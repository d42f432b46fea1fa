"""What the processes of `test_faults_sqlite.py` run: `python -m tests.store.process_sqlite VERB URL …`."""

from __future__ import annotations

import asyncio
import sqlite3
import sys

from muskox.core.errors import StoreError
from muskox.core.job import NewJob
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.sqlite import line
from tests.store.process import say


def lock(url: str) -> None:
    """Hold the lock of the writer until told to let go."""
    db = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    say("locked")
    sys.stdin.readline()
    db.execute("ROLLBACK")
    db.close()


async def checkpoint(url: str, prefix: str, count: str) -> None:
    """Add one by one and move the log into the database after almost every commit."""
    line.CHECKPOINT_BYTES = 16 * 1024
    store = open_store(url, RealWorld())
    await store.open()
    for number in range(int(count)):
        # Several at a time go through the line, which is where checkpoints are made.
        await store.add([NewJob(f"{prefix}-{number}", "files", "resize", data='"' + "x" * 2000 + '"')])
        await store.pause(f"queue-{prefix}", number % 2 == 0)
        say("added", f"{prefix}-{number}")
    await store.close()


async def produce(url: str) -> None:
    """Add one by one, as a lone producer does, until killed."""
    store = open_store(url, RealWorld())
    await store.open()
    for number in range(1_000_000):
        await store.add([NewJob(str(number), "files", "resize")])
        say("added", str(number))


async def stumble(url: str) -> None:
    """Add one by one while the disk fails now and then."""
    line.CHECKPOINT_BYTES = 16 * 1024
    store = open_store(url, RealWorld())
    try:
        await store.open()
    except StoreError as error:
        say("refused", type(error).__name__)
        return
    for number in range(30):
        try:
            await store.add([NewJob(str(number), "files", "resize", data='"' + "x" * 2000 + '"')])
            say("added", str(number))
            await store.pause("other", number % 2 == 0)
        except StoreError as error:
            say("refused", type(error).__name__)
    await store.close()


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "lock":
        lock(*words)
    else:
        asyncio.run({"checkpoint": checkpoint, "produce": produce, "stumble": stumble}[verb](*words))
