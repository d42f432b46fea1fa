"""What the processes of `test_dedup.py` and `test_bounded.py` run: `python -m tests.store.process_dedup VERB URL …`."""

from __future__ import annotations

import asyncio
import sys

from muskox.core.dedup import Dedup
from muskox.core.errors import QueueFull
from muskox.core.job import NewJob, Options
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Store, Want


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - its output is what it is for


async def add(store: Store, keys: str) -> None:
    """Add a job for each key, as the other processes do."""
    world = RealWorld()
    for key in range(int(keys)):
        options = Options(dedup=Dedup(str(key)))
        [answer] = await store.add([NewJob(world.new_id(), "files", "resize", options=options)])
        say("stored" if answer.created else "found", key, answer.job.id)


async def keep(store: Store, key: str, count: str) -> None:
    """Add one after the other with the same key, the last of which must run."""
    for number in range(int(count)):
        options = Options(dedup=Dedup(key, then="keep-last"))
        await store.add([NewJob(f"{key}-{number}", "files", "resize", data=str(number), options=options)])
        say("kept", key, number)


async def drain(store: Store, turns: str) -> None:
    """Claim and complete for a while."""
    for _ in range(int(turns)):
        jobs = await store.claim([Want("files")], limit=10, worker="w", lease=60)
        for job in jobs:
            assert job.options.dedup is not None
            assert job.lease is not None
            say("ran", job.options.dedup.key, job.data)
        if jobs:
            await store.settle([Complete(job.lease) for job in jobs if job.lease is not None])
        await store.wait(["files"], seconds=0.02)


async def fill(store: Store, prefix: str, count: str) -> None:
    """Add one by one into a queue that may be full."""
    for number in range(int(count)):
        try:
            await store.add([NewJob(f"{prefix}-{number}", "files", "resize")])
            say("stored", prefix, number)
        except QueueFull:
            say("refused", prefix, number)


async def main(verb: str, url: str, *rest: str) -> None:
    store = open_store(url, RealWorld())
    await store.open()
    await {"add": add, "keep": keep, "drain": drain, "fill": fill}[verb](store, *rest)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
