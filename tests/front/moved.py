"""What the processes of `test_moving.py` run: `python -m tests.front.moved FROM_URL TO_URL`."""

from __future__ import annotations

import asyncio
import sys

from muskox import moving
from muskox.runtime.world import RealWorld
from muskox.store import open_store

LEASE = 1.0


async def main(source_url: str, target_url: str) -> None:
    """Move in small steps, telling of each, so that whoever kills it can choose when."""
    moving.BATCH = 3
    world = RealWorld()
    source, target = open_store(source_url, world), open_store(target_url, world)
    await source.open()
    await target.open()
    adopt = target.adopt

    async def told(jobs):
        print("adopting", flush=True)  # noqa: T201 - its output is what it is for
        return await adopt(jobs)

    target.adopt = told
    print("ready", flush=True)  # noqa: T201 - as above
    await moving.move(source, target, world, lease=LEASE)
    await source.close()
    await target.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
