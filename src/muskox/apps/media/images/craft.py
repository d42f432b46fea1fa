"""Makes outputs of pictures: hands orders to the children, and checks and keeps what they have written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from muskox.apps.media.errors import Broken, Reason
from muskox.apps.media.images.pool import Pool
from muskox.apps.media.images.wire import Done, Make, Probe, Said, Wrote
from muskox.apps.media.kinds import Kind, Sniffed, sniff
from muskox.apps.media.limits import ImageLimits
from muskox.apps.media.operations import Compress, ImageOperation
from muskox.apps.media.workshop import Task

__all__ = ["ImageCraft"]

_NAMES = {"processed", "thumbnail"}
_ENDINGS = {"jpg": "jpeg", "png": "png", "webp": "webp", "avif": "avif", "gif": "gif"}
_MOST_SIDE = 65_535


class ImageCraft:
    """The `Craft` of pictures."""

    kind = Kind.IMAGE
    engine = "libvips-8"

    def __init__(self, pool: Pool, limits: ImageLimits) -> None:
        self._pool = pool
        self._limits = limits

    async def probe(self, path: Path, sniffed: Sniffed) -> dict[str, Any]:
        """See `Craft.probe`."""
        order = Probe(str(path), sniffed.format, self._limits)
        done = await self._pool.ask(order, wall=self._limits.probe_wall)
        return _facts(done)

    async def make(self, task: Task) -> None:
        """See `Craft.make`."""
        said: asyncio.Queue[Said | None] = asyncio.Queue()
        operations = cast("list[ImageOperation]", task.order.operations)
        order = Make(
            str(task.source), task.order.format, self._limits, str(task.desk.folder), operations, list(task.desk.made)
        )

        async def ask() -> Done:
            try:
                return await self._pool.ask(order, wall=self._limits.wall, tell=said.put_nowait)
            finally:
                said.put_nowait(None)

        # The child goes on while we tell of what it has done and bring that to the disk.
        asking = task.ox.world.spawn(ask(), name=f"muskox-picture-{task.job.id}")
        try:
            await self._follow(task, said)
            done = await asking
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        task.facts |= _facts(done)
        task.engines["libvips"] = done.engine

    async def _follow(self, task: Task, said: asyncio.Queue[Said | None]) -> None:
        reached = max((_mark_of(name, task) for name in task.desk.made), default=0)
        while (told := await said.get()) is not None:
            if isinstance(told, Wrote):
                await self._keep(task, told)
            if told.percent > reached:
                reached = told.percent
                await task.mark(told.percent)

    async def _keep(self, task: Task, told: Wrote) -> None:
        """Believe nothing that the child says of a file: look what it is, and count only what it may be."""
        stem, _, ending = told.name.partition(".")
        if stem not in _NAMES or ending not in _ENDINGS:
            raise Broken(Reason.VERIFY_FAILED, "the process that decoded it named a file that nobody asked for")
        head = await asyncio.to_thread(task.desk.head, told.name)
        sniffed = sniff(head)
        if sniffed.format != _ENDINGS[ending]:
            raise Broken(Reason.VERIFY_FAILED, f"{told.name} was made, and is none")
        facts: dict[str, Any] = {"kept_original": True} if told.kept_original else {}
        if told.frames > 1:
            facts["frames"] = told.frames
        width, height = (min(max(side, 1), _MOST_SIDE) for side in (told.width, told.height))
        await task.keep(told.name, sniffed.media_type, width=width, height=height, facts=facts)


def _mark_of(name: str, task: Task) -> int:
    """How far the way is when the output of that name is kept."""
    if name.startswith("thumbnail."):
        return 75
    return 50 if any(isinstance(operation, Compress) for operation in task.order.operations) else 30


def _facts(done: Done) -> dict[str, Any]:
    return {"width": done.width, "height": done.height, "frames": done.frames, **done.facts}
