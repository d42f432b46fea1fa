"""The jobs that make something of videos: which queue, how many attempts, how long. What they make is `craft.py`'s."""

from __future__ import annotations

from typing import Any

from muskox import ActiveJob, Fixed, Processor, process
from muskox.apps.media.kinds import Kind
from muskox.apps.media.operations import read_operations
from muskox.apps.media.video.craft import VideoCraft
from muskox.apps.media.workshop import Order, Workshop

__all__ = ["VIDEO_JOB", "VIDEO_QUEUE", "Videos"]

VIDEO_QUEUE, VIDEO_JOB = "videos", "process-video"


class Videos(Processor, queue=VIDEO_QUEUE):
    """Clips: two attempts, each of an hour at most, and only one where another would end the same way."""

    def __init__(self, workshop: Workshop, craft: VideoCraft) -> None:
        self._workshop = workshop
        self._craft = craft

    @process(VIDEO_JOB, attempts=2, backoff=Fixed(5), timeout=3600, max_stalls=3)
    async def video(
        self,
        job: ActiveJob,
        file: str,
        source: str,
        format: str,  # noqa: A002 - a field of the job's data
        operations: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """Make of the file `file` what the operations say, and publish it."""
        order = Order(file, source, format, read_operations(Kind.VIDEO, operations))
        return await self._workshop.run(job, order, self._craft)
