"""What a worker claims beyond its slots: given back when the runs before it turn out to be long."""

from __future__ import annotations

import asyncio

from muskox import Muskox
from tests.runtime.helpers import until


async def test_jobs_claimed_ahead_do_not_wait_behind_a_long_run(ox: Muskox) -> None:
    queue = ox.queue("files")
    go_on = asyncio.Event()
    done: list[bool] = []

    @queue.processor("work")
    async def work(long: bool = False) -> None:
        if long:
            await go_on.wait()
        done.append(long)

    await queue.add_many([("work", {"long": number == 150}) for number in range(160)])
    async with ox.worker(concurrency=1), ox.worker(concurrency=1):
        await until(lambda: len(done) == 159)
        # What has run may not be written yet.
        async with asyncio.timeout(10):
            while (figures := await queue.counts()).active > 1:  # noqa: ASYNC110 - a store sets no event
                await asyncio.sleep(0.002)
        go_on.set()

    assert (figures.active, figures.waiting) == (1, 0)
