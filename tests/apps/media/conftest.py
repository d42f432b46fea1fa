"""The media application in a folder of its own, with a worker in this process; decoders are shared by all tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from muskox import Job, JobCancelled, JobFailed, Muskox
from muskox.apps.media.images.pool import Pool
from muskox.apps.media.images.wire import Done, Make, Said, Wrote
from muskox.apps.media.kinds import sniff
from muskox.apps.media.limits import ImageLimits, Limits
from muskox.apps.media.media import Media, RunLook
from muskox.apps.media.operations import read_operations
from muskox.apps.notifier.engine import open_engine


@dataclass
class Darkroom:
    """A pool of decoders, and a folder for what they make."""

    pool: Pool
    folder: Path
    limits: ImageLimits

    async def make(self, data: bytes | Path, *operations: Any) -> dict[str, bytes]:
        """What is made of a file, by name."""
        _, said = await self.ask(data, *operations)
        return {told.name: (self.folder / told.name).read_bytes() for told in said if isinstance(told, Wrote)}

    async def ask(
        self, data: bytes | Path, *operations: Any, limits: ImageLimits | None = None
    ) -> tuple[Done, list[Said]]:
        path = data if isinstance(data, Path) else self.folder / "source"
        if isinstance(data, bytes):
            path.write_bytes(data)
        head = sniff(first_bytes(path))
        said: list[Said] = []
        order = Make(
            str(path),
            head.format,
            limits or self.limits,
            str(self.folder),
            read_operations(head.kind, list(operations)),
            [],
        )
        done = await self.pool.ask(order, wall=60, tell=said.append)
        await asyncio.sleep(0)
        return done, said


def first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    made = Pool(2, ImageLimits())
    yield made
    made.close()


@pytest.fixture
def darkroom(pool: Pool, tmp_path: Path) -> Darkroom:
    return Darkroom(pool, tmp_path, ImageLimits())


async def blocks(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@dataclass
class Studio:
    """A running media application."""

    media: Media
    ox: Muskox

    async def upload(self, data: bytes, operations: Any = None, name: str = "photo.jpg") -> RunLook:
        received = await self.media.receive(blocks(data), name=name)
        return await self.media.accept(received, operations)

    async def settled(self, look: RunLook, seconds: float = 60) -> Job:
        """The job of a run, once it has ended."""
        queue = self.ox.queue(look.run.queue)
        try:
            await queue.result(look.run.id, timeout=seconds)
        except (JobFailed, JobCancelled):
            pass
        job = await queue.get(look.run.id)
        assert job is not None
        return job

    def output(self, look: RunLook, source: str, name: str) -> bytes:
        return (self.media.storage.result_path(source, look.run.recipe) / name).read_bytes()

    @property
    def partial(self) -> list[str]:
        return [entry.name for entry in self.media.storage.tmp.iterdir()]


@asynccontextmanager
async def studio_in(folder: Path, pool: Pool, **options: Any) -> AsyncIterator[Studio]:
    """A media application in a folder, without a worker."""
    ox = Muskox(f"sqlite:///{folder / 'muskox.db'}")
    engine = open_engine(ox.url)
    media = Media(ox, engine, folder / "media", pool=pool, **options)
    async with ox, media.running():
        yield Studio(media, ox)
    await asyncio.to_thread(engine.dispose)


@pytest.fixture
async def studio(tmp_path: Path, pool: Pool) -> AsyncIterator[Studio]:
    async with studio_in(tmp_path, pool, limits=Limits(reserve=1)) as made, made.ox.worker(concurrency=4):
        yield made
