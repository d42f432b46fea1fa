"""What the processes of the tests of schedules run: `python -m tests.runtime.ticking WHAT URL`.

Each is a worker with one schedule, and prints one line per fact.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from muskox import Muskox
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Firing, Store
from tests.runtime.helpers import on_store


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - its output is what it is for


async def line() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


class Held:
    """A store that says when something shall be fired and waits for a line, and then says what came of it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    async def fire(self, firings: Sequence[Firing]) -> list[int | None]:
        say("due")
        await line()
        answers = await self._store.fire(firings)
        say("fired", *answers)
        return answers


async def held(url: str) -> None:
    """Tell of each firing before it, and wait for leave."""
    ox = on_store(Held(open_store(url, RealWorld())))

    @ox.every(0.25)
    async def beat() -> None: ...

    async with ox.worker():
        await asyncio.Event().wait()


async def beats(url: str) -> None:
    """Fire, and for each line that comes in let another schedule run once."""
    ox = Muskox(url)

    @ox.every(0.5, catch_up=2, grace=1.0)
    async def beat() -> None: ...

    @ox.queue("default").processor("probe")
    async def probe() -> None:
        say("probed")

    async with ox.worker():
        while await line():
            await ox.schedules.add_once("probe", after=0.1, queue="default", job="probe", replace=True)


if __name__ == "__main__":
    asyncio.run({"held": held, "beats": beats}[sys.argv[1]](sys.argv[2]))
