"""Carries out one order: looks whether it is done already, has it made, publishes it, and leaves nothing behind.

Who makes pictures or clips is handed in as a `Craft`; what is the same for both
stands here. It adds no jobs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from muskox import ActiveJob, Muskox
from muskox.apps.media.desk import Desk
from muskox.apps.media.errors import MediaError, NoSuchFile, Reason, Refused
from muskox.apps.media.kinds import Kind, Sniffed
from muskox.apps.media.limits import Limits
from muskox.apps.media.operations import Operation, plain
from muskox.apps.media.recipes import Made, Manifest, Recipe
from muskox.apps.media.storage import Storage

__all__ = ["Craft", "Order", "Task", "Workshop"]

_LOOK_AGAIN = 0.004
_LOOKS = 250


@dataclass(frozen=True, slots=True)
class Order:
    """What a job asks for: `file` is the id of the file, `source` the hash of its bytes."""

    file: str
    source: str
    format: str
    operations: list[Operation]


class Craft(Protocol):
    """Makes something of files of one kind."""

    kind: Kind
    engine: str
    """Who makes it, as it stands in recipes; changes when the same order would give other bytes."""

    async def probe(self, path: Path, sniffed: Sniffed) -> dict[str, Any]:
        """Look at the head of a file: `width`, `height`, `duration` and what else is known before it is decoded.

        Raises `Refused` for what no order could be carried out on.
        """
        ...

    async def make(self, task: Task) -> None:
        """Make each output in the task's desk and keep it there; leave alone what is kept already.

        Tells progress below 100. Raises `Refused` for what would end the same way again. Cancelled, it comes
        back only when nothing it has started is alive any more.
        """
        ...


@dataclass(slots=True)
class Task:
    """One run of one order. `facts` and `engines` go into the manifest."""

    job: ActiveJob
    order: Order
    desk: Desk
    source: Path
    ox: Muskox
    facts: dict[str, Any] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)

    def kept(self, name: str) -> Made | None:
        """The output of that name, if an earlier run has kept it."""
        return self.desk.made.get(name)

    async def keep(self, name: str, media_type: str, **facts: Any) -> Made:
        """Count an output that lies in the desk under its name; see `Desk.keep`."""
        return await asyncio.to_thread(self.desk.keep, name, media_type, **facts)

    async def mark(self, percent: int) -> None:
        """Tell a step of the way and see it written, so that each mark becomes an event of its own."""
        await self.job.progress(percent)
        queue = self.ox.queue(self.job.queue)
        for _ in range(_LOOKS):
            job = await queue.get(self.job.id)
            if job is None or job.progress == percent:
                return
            await self.ox.world.sleep(_LOOK_AGAIN)


class Workshop:
    """Carries out orders for one `Storage`."""

    def __init__(self, ox: Muskox, storage: Storage, limits: Limits) -> None:
        self.ox = ox
        self.storage = storage
        self.limits = limits

    def recipe(self, craft: Craft, operations: list[Operation]) -> Recipe:
        """The recipe of what a craft makes of operations."""
        return Recipe(craft.kind, craft.engine, plain(operations))

    async def run(self, job: ActiveJob, order: Order, craft: Craft) -> dict[str, Any]:
        """Carry out an order and give the job's result; made already, it costs a look at the disk."""
        recipe = self.recipe(craft, order.operations)
        found = await asyncio.to_thread(self.storage.find, order.source, recipe.hash)
        desk = Desk(self.storage, job.id, job.fence, recipe)
        if found is not None:
            await job.progress(100)
            return self.result(order.file, found, cached=True)
        try:
            manifest = await self._make(job, order, craft, desk)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.to_thread(desk.clear))
            raise
        except NoSuchFile as error:
            await asyncio.to_thread(desk.clear)
            raise Refused(Reason.SOURCE_GONE, "the file has been deleted") from error
        except Exception as error:
            last = isinstance(error, Refused) or job.attempt >= job.attempts
            await asyncio.to_thread(desk.clear if last else desk.clear_unkept)
            if isinstance(error, MediaError) and error.reason is Reason.TIMEOUT and job.attempt > 1:
                raise Refused(error.reason, error.text) from error
            raise
        return self.result(order.file, manifest, cached=False)

    async def _make(self, job: ActiveJob, order: Order, craft: Craft, desk: Desk) -> Manifest:
        began = self.ox.world.monotonic()
        await asyncio.to_thread(desk.open)
        source = await asyncio.to_thread(self.storage.blob_path, order.source)
        task = Task(job, order, desk, source, self.ox)
        await craft.make(task)
        seconds = self.ox.world.monotonic() - began
        manifest = await asyncio.to_thread(
            lambda: desk.publish(order.source, engines=task.engines, seconds=seconds, facts=task.facts)
        )
        await task.mark(100)
        return manifest

    def result(self, file: str, manifest: Manifest, *, cached: bool) -> dict[str, Any]:
        """What a job returns: paths below the root of the storage, and what lies there."""
        source, recipe = manifest.source, manifest.recipe.hash
        original = Path("blobs", "sha256", source[:2], source[2:4], source)
        folder = Path("derived", source[:2], source, recipe)
        outputs = {made.name.partition(".")[0]: str(folder / made.name) for made in manifest.outputs}
        return {
            "file_id": file,
            "recipe": recipe,
            "cached": cached,
            "original": str(original),
            **outputs,
            "bytes": {made.name: made.bytes for made in manifest.outputs},
        }
