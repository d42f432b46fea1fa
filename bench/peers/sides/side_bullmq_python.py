"""BullMQ for Python on Redis."""

import asyncio
import contextlib

import side
from bullmq import Queue, Worker


@contextlib.asynccontextmanager
async def producer(url):
    queue = Queue("bench", {"connection": url})

    async def add(index):
        await queue.add("noop", {"index": index})

    async def add_many(indexes):
        await queue.addBulk([{"name": "noop", "data": {"index": index}} for index in indexes])

    yield add, add_many
    await queue.close()


async def work(url, runs, slots):
    async def noop(job, _token):
        runs.note(job.data["index"])

    worker = Worker("bench", noop, {"connection": url, "concurrency": slots})
    await asyncio.Event().wait()
    await worker.close()


if __name__ == "__main__":
    side.main(producer, work)
