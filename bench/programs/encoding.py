"""A worker that encodes: what is killed by `bench encodes`, and what its progress is measured of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from muskox import Muskox, World
from muskox.apps.media.limits import Limits
from muskox.apps.media.storage import Storage
from muskox.apps.media.video.craft import VideoCraft
from muskox.apps.media.video.encoder import Encoder
from muskox.apps.media.video.processor import Videos
from muskox.apps.media.video.tools import find_tools
from muskox.apps.media.workshop import Workshop

__all__ = ["work", "working"]

LEASE = 2.0


@asynccontextmanager
async def working(
    folder: str, encoders: int, *, encoder: Callable[[World], Encoder] = Encoder
) -> AsyncIterator[Muskox]:
    """A worker for videos on the files in a folder."""
    ox = Muskox(f"sqlite:///{folder}/muskox.db")
    storage = Storage(Path(folder) / "media")
    await asyncio.to_thread(storage.open)
    limits = Limits(encoders=encoders)
    craft = VideoCraft(ox.world, limits, await asyncio.to_thread(find_tools), encoder=encoder(ox.world))
    ox.include(Videos(Workshop(ox, storage, limits), craft))
    async with ox, ox.worker(["videos"], concurrency=encoders, lease=LEASE):
        yield ox


async def work(folder: str, encoders: int) -> None:
    """Encode until killed."""
    async with working(folder, encoders):
        await asyncio.Event().wait()
