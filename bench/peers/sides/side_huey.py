"""Huey on Redis, PostgreSQL or SQLite, threads in one process. It has no bulk add: `add_many` adds one after the other.

The SQLite URL may end in `?synchronous=NORMAL`, which Huey has no option for.
"""

import contextlib
import threading

import side
from huey import PostgresHuey, RedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.storage import SqliteStorage


class _Storage(SqliteStorage):
    level = ""

    def _create_connection(self):
        connection = super()._create_connection()
        if self.level:
            connection.execute(f"PRAGMA synchronous = {self.level}")
        return connection


def _huey(url, runs=None):
    if url.startswith("redis"):
        huey = RedisHuey("bench", url=url)
    elif url.startswith("postgresql"):
        huey = PostgresHuey("bench", dsn=url)
    else:
        path, _, _Storage.level = url.removeprefix("sqlite:///").partition("?synchronous=")
        huey = SqliteHuey("bench", storage_class=_Storage, filename=path)

    @huey.task(name="noop")
    def noop(index):
        runs.note(index)

    return huey, noop


@contextlib.contextmanager
def producer(url):
    _, noop = _huey(url)

    def add_many(indexes):
        for index in indexes:
            noop(index)

    yield noop, add_many


def work(url, runs, slots):
    huey, _ = _huey(url, runs)
    Consumer(huey, workers=slots, periodic=False).start()
    threading.Event().wait()


if __name__ == "__main__":
    side.main(producer, work)
