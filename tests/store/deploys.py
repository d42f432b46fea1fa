"""What the tests of deploys share: processes that work all the time, and the stories that SQL stores live through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from muskox.core.errors import StoreUnsupported
from muskox.core.job import NewJob
from muskox.core.seam import World
from muskox.store import open_store
from muskox.store.protocol import Store
from tests.processes import finished, started
from tests.store.process_next import NAME
from tests.store.reading import events, everything

NEXT = "tests.store.process_next"
LIMIT = 60


class Churner:
    """A process that adds, claims and completes all the time, and what it has been told is done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"done ") and line.endswith(b"\n"):
                self.done += line.decode().split()[1:]

    async def goes_on(self) -> None:
        """Wait until more has been done than up to now."""
        before = len(self.done)
        async with asyncio.timeout(LIMIT):
            while len(self.done) <= before + 8:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def churning(url: str, *prefixes: str, program: str = "tests.store.process") -> AsyncIterator[list[Churner]]:
    """Processes that work on the store until the end, when they are killed."""
    async with AsyncExitStack() as stack:
        found = []
        for prefix in prefixes:
            process = await stack.enter_async_context(started(program, "churn", url, prefix))
            churner = Churner()
            reading = asyncio.create_task(churner.read(process))
            stack.push_async_callback(_end, process, reading)
            found.append(churner)
        for churner in found:
            await churner.goes_on()
        yield found


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    assert process.returncode is None, "a worker ended by itself"
    process.kill()
    await reading


async def all_done_once(store: Store, churners: list[Churner]) -> None:
    """What the processes were told is done has been completed, each job once."""
    completed = [event.job_id for event in await events(store) if event.kind == "completed"]
    assert len(completed) == len(set(completed))
    assert {id for churner in churners for id in churner.done} <= set(completed)
    assert await store.audit() == []


Half = Callable[[asyncio.subprocess.Process], Awaitable[None]]


async def killed_half_way(url: str, store: Store, world: World, *, latest: str, number: int, half: Half) -> None:
    """Kill a migration half way and run it twice at once, while workers of the release before go on.

    `half` returns once the migration of a process has come half way, and kills it there. The store must be one on the
    machine's clock.
    """
    async with churning(url, "one", "other") as churners:
        async with asyncio.timeout(LIMIT), started(NEXT, url, latest, number) as process:
            await half(process)
        for churner in churners:
            await churner.goes_on()
        again = open_store(url, world)
        await again.open()
        assert await again.migrate() == []
        await again.close()
        async with asyncio.timeout(LIMIT):
            said = await asyncio.gather(*(finished(NEXT, url, latest, 0) for _ in range(2)))
        assert said == [[["open"]], [["open"]]]
        for churner in churners:
            await churner.goes_on()
        old = open_store(url, world)
        await old.open()
        assert await old.add([NewJob("late", "others", "resize")])
        await old.close()

    await all_done_once(store, churners)


async def is_refused(url: str, store: Store, world: World) -> None:
    """A store of a release that we cannot read is refused, and nothing of it is changed."""
    await store.add([NewJob(id, "files", "resize") for id in "abc"])
    before = await _seen(store)
    async with asyncio.timeout(LIMIT):
        assert await finished(NEXT, url, NAME, 0) == [["open"]]

    late = open_store(url, world)
    with pytest.raises(StoreUnsupported, match=f"{NAME}.*upgrade Muskox"):
        await late.open()
    await late.close()

    assert await _seen(store) == before
    assert await store.audit() == []


async def is_brought_up_to_date(url: str, store: Store, *, latest: str) -> None:
    """The next release takes over a store as it is, jobs and all."""
    await store.add([NewJob(id, "files", "resize", delay=60 if id == "c" else 0.0) for id in "abc"])
    before = await _seen(store)

    async with asyncio.timeout(LIMIT):
        assert await finished(NEXT, url, latest, 0) == [["open"]]

    assert await _seen(store) == before
    assert await store.audit() == []


async def _seen(store: Store) -> dict[str, object]:
    """All but the figures, in which the age of what waits grows."""
    found = await everything(store)
    found.pop("counts")
    return found
