"""PgQueuer over asyncpg, the driver that its pages begin with."""

import contextlib
import json

import asyncpg
import side
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

BATCH = 100


async def prepare(url):
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    if not await queries.schema_is_installed():
        await queries.install()
    await connection.close()


def _data(index):
    return json.dumps({"index": index}).encode()


@contextlib.asynccontextmanager
async def producer(url):
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))

    async def add(index):
        await queries.enqueue("noop", _data(index))

    async def add_many(indexes):
        await queries.enqueue(["noop"] * len(indexes), [_data(index) for index in indexes], [0] * len(indexes))

    yield add, add_many
    await connection.close()


async def work(url, runs, slots):
    connection = await asyncpg.connect(url)
    pgq = PgQueuer(AsyncpgDriver(connection))

    @pgq.entrypoint("noop")
    async def noop(job):
        runs.note(json.loads(job.payload)["index"])

    await pgq.run(batch_size=slots)


if __name__ == "__main__":
    side.main(producer, work, prepare)
