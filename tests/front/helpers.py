"""Short words for what the front's tests do: wait for facts, move time, start other programs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from muskox import Event, Muskox, Queue
from muskox.runtime.worker import Worker
from muskox.testing import FakeWorld

LIMIT = 20.0
TESTS = Path(__file__).parents[1]


async def until(fact: Callable[[], object], world: FakeWorld | None = None, *, step: float = 0.1) -> None:
    """Return once the fact is there; with a world, time passes in steps meanwhile."""
    async with asyncio.timeout(LIMIT):
        while not fact():
            if world is not None:
                world.advance(step)
            # Time must not run away from the threads that renew leases while the machine is busy with others.
            await asyncio.sleep(0 if world is None else 0.0005)


@asynccontextmanager
async def working(ox: Muskox, world: FakeWorld, **settings: Any) -> AsyncIterator[Worker]:
    """A worker beside the block, in a world whose time passes only while somebody waits for a fact."""
    # The moved clock runs far ahead of the machine's: an hour of lease is a moment for the threads that renew it.
    worker = ox.worker(lease=3600, **settings)
    task = asyncio.create_task(worker.run())
    await until(lambda: task.done() or worker._ready.is_set())
    try:
        yield worker
    finally:
        worker.stop()
        await until(task.done, world)
        await task


async def event(queue: Queue, kind: str, *, after: int = 0) -> Event:
    """The first event of a kind, waited for."""
    async with asyncio.timeout(LIMIT):
        async for found in queue.events(after=after, kinds=[kind]):
            return found
    raise AssertionError("events never end")


def start(folder: Path, text: str, *args: str) -> subprocess.Popen[str]:
    """Start another program with this text."""
    file = folder / "program.py"
    file.write_text(text)
    return subprocess.Popen([sys.executable, str(file), *args], stdout=subprocess.PIPE, text=True)


async def run(folder: Path, text: str, *args: str, code: int = 0) -> str:
    """Run another program to its end and give what it printed."""
    with start(folder, text, *args) as other:
        try:
            printed, _ = await asyncio.to_thread(other.communicate, timeout=LIMIT)
        finally:
            other.kill()
    assert other.returncode == code
    return printed


def names(jobs: Any) -> list[str]:
    return [job.name for job in jobs]
