"""Taskiq on Redis, by a stream with a group of readers. Many jobs are added at once by `asyncio.gather`."""

import asyncio
import contextlib

import side
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker


def _broker(url, runs=None):
    # Its pool has no bound of its own; without one `gather` opens a thousand connections.
    broker = RedisStreamBroker(url, queue_name="bench", max_connection_pool_size=200)

    @broker.task(task_name="noop")
    async def noop(index: int) -> None:
        runs.note(index)

    return broker, noop


@contextlib.asynccontextmanager
async def producer(url):
    broker, noop = _broker(url)
    await broker.startup()
    room = asyncio.Semaphore(100)

    async def add(index):
        await noop.kiq(index)

    async def add_in_room(index):
        async with room:
            await noop.kiq(index)

    async def add_many(indexes):
        await asyncio.gather(*(add_in_room(index) for index in indexes))

    yield add, add_many
    await broker.shutdown()


async def work(url, runs, slots):
    broker, _ = _broker(url, runs)
    await run_receiver_task(broker, max_async_tasks=slots, max_prefetch=slots, run_startup=True)


if __name__ == "__main__":
    side.main(producer, work)
