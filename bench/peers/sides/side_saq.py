"""SAQ on Redis or PostgreSQL. It has no bulk add: many jobs are added at once by `asyncio.gather`."""

import asyncio
import contextlib

import side
from saq import Queue, Worker


@contextlib.asynccontextmanager
async def producer(url):
    queue = Queue.from_url(url, name="bench")
    await queue.connect()

    async def add(index):
        await queue.enqueue("noop", index=index)

    async def add_many(indexes):
        await asyncio.gather(*(queue.enqueue("noop", index=index) for index in indexes))

    yield add, add_many
    await queue.disconnect()


async def work(url, runs, slots):
    async def noop(_ctx, *, index):
        runs.note(index)

    queue = Queue.from_url(url, name="bench")
    await queue.connect()
    await Worker(queue, functions=[("noop", noop)], concurrency=slots).start()


if __name__ == "__main__":
    side.main(producer, work)
