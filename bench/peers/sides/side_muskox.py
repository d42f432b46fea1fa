"""Muskox, by its public API and with its defaults."""

import asyncio
import contextlib

import side

from muskox import Muskox, Retention


@contextlib.asynccontextmanager
async def producer(url):
    async with Muskox(url) as ox:
        queue = ox.queue("bench")

        async def add(index):
            await queue.add("noop", {"index": index})

        async def add_many(indexes):
            await queue.add_many([("noop", {"index": index}) for index in indexes])

        yield add, add_many


async def work(url, runs, slots):
    async with Muskox(url) as ox:
        # Nothing is cleared while it is measured.
        queue = ox.queue("bench", retention=Retention(completed_most=10**9))

        @queue.processor("noop")
        async def noop(index: int) -> None:
            runs.note(index)

        async with ox.worker(concurrency=slots):
            await asyncio.Event().wait()


if __name__ == "__main__":
    side.main(producer, work)
