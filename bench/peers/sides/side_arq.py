"""arq. It has no bulk add: many jobs are added at once by `asyncio.gather`."""

import asyncio
import contextlib

import side
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker


@contextlib.asynccontextmanager
async def producer(url):
    pool = await create_pool(RedisSettings.from_dsn(url))
    # A hundred at a time, as each takes a connection of its own.
    room = asyncio.Semaphore(100)

    async def add(index):
        await pool.enqueue_job("noop", index)

    async def add_in_room(index):
        async with room:
            await pool.enqueue_job("noop", index)

    async def add_many(indexes):
        await asyncio.gather(*(add_in_room(index) for index in indexes))

    yield add, add_many
    await pool.aclose()


async def work(url, runs, slots):
    async def noop(_ctx, index):
        runs.note(index)

    worker = Worker(
        [func(noop, name="noop")],
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=slots,
        handle_signals=False,
        log_results=False,
    )
    await worker.async_run()


if __name__ == "__main__":
    side.main(producer, work)
