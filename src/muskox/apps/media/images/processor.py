"""Declares who runs the jobs for pictures."""

from __future__ import annotations

from typing import Any

from muskox import ActiveJob, Exponential, Processor, process
from muskox.apps.media.images.craft import ImageCraft
from muskox.apps.media.kinds import Kind
from muskox.apps.media.operations import read_operations
from muskox.apps.media.workshop import Order, Workshop

__all__ = ["IMAGE_JOB", "IMAGE_QUEUE", "Images"]

IMAGE_QUEUE, IMAGE_JOB = "images", "process-image"


class Images(Processor, queue=IMAGE_QUEUE):
    """Pictures: three attempts, after 5 and after 10 seconds, and only one where another would end the same way."""

    def __init__(self, workshop: Workshop, craft: ImageCraft) -> None:
        self._workshop = workshop
        self._craft = craft

    @process(IMAGE_JOB, attempts=3, backoff=Exponential(5), max_stalls=3)
    async def make(
        self,
        job: ActiveJob,
        file: str,
        source: str,
        format: str,  # noqa: A002 - our word for it, and a field of the job
        operations: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """Make what was asked for; see `Workshop.run`."""
        order = Order(file, source, format, read_operations(Kind.IMAGE, operations))
        return await self._workshop.run(job, order, self._craft)
