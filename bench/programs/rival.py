"""Huey on its SQLite storage, doing what is asked of Muskox, with its own consumer.

As it comes, Huey has SQLite sync the disk at each commit. With `level`, SQLite's
`synchronous` is set instead: NORMAL is what Muskox uses, and a setting that Huey
itself does not offer.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time

from huey import SqliteHuey  # type: ignore[import-untyped]
from huey.consumer import Consumer  # type: ignore[import-untyped]
from huey.storage import SqliteStorage  # type: ignore[import-untyped]

__all__ = ["add", "drain"]


def add(path: str, jobs: int, level: str | None) -> dict[str, float]:
    """Enqueue jobs one by one."""
    huey = _open(path, level)

    @huey.task(name="noop")  # type: ignore[untyped-decorator]
    def noop(index: int) -> None:
        raise AssertionError(index)

    begun = time.perf_counter()
    for index in range(jobs):
        noop(index)
    rate = jobs / (time.perf_counter() - begun)
    assert huey.storage.queue_size() == jobs
    return {"rate": rate}


def drain(path: str, jobs: int, threads: int, level: str | None) -> dict[str, float]:
    """Run all jobs in threads of Huey's consumer; from its start until the last has run."""
    huey = _open(path, level)
    seen = [0] * jobs
    count = itertools.count(1)
    finished = threading.Event()

    @huey.task(name="noop")  # type: ignore[untyped-decorator]
    def noop(index: int) -> None:
        seen[index] += 1
        if next(count) == jobs:
            finished.set()

    consumer = Consumer(huey, workers=threads, periodic=False)
    begun = time.perf_counter()
    consumer.start()
    if not finished.wait(600):
        raise RuntimeError(f"Huey ran {sum(seen)} of {jobs} jobs in 600 seconds")
    rate = jobs / (time.perf_counter() - begun)
    consumer.stop(graceful=True)
    if set(seen) != {1}:
        raise RuntimeError(f"Huey ran {sum(one != 1 for one in seen)} jobs not exactly once")
    return {"rate": rate}


def _open(path: str, level: str | None) -> SqliteHuey:
    if level is None:
        return SqliteHuey(filename=path)

    class Storage(SqliteStorage):  # type: ignore[misc]
        def _create_connection(self) -> sqlite3.Connection:
            connection: sqlite3.Connection = super()._create_connection()
            connection.execute(f"PRAGMA synchronous = {level}")
            return connection

    return SqliteHuey(storage_class=Storage, filename=path)
