"""Makes of a video what an order asks for: the video for the web, and what is shown of it before it is played.

Each output is checked before it is kept. How encoders are run, and what files
become of what is kept, is not decided here.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from muskox import World
from muskox.apps.media.errors import Broken, MediaError, Reason, Refused
from muskox.apps.media.kinds import Kind, Sniffed
from muskox.apps.media.limits import Limits
from muskox.apps.media.operations import Preview, Transcode, one_of
from muskox.apps.media.video.commands import Source
from muskox.apps.media.video.encoder import Encoder
from muskox.apps.media.video.facts import Facts
from muskox.apps.media.video.preview import make_preview, preview_weight
from muskox.apps.media.video.probe import DEMUXERS, Prober, check_duration
from muskox.apps.media.video.studio import Studio
from muskox.apps.media.video.telling import Telling
from muskox.apps.media.video.tools import Tools
from muskox.apps.media.video.transcode import make_video, video_weight
from muskox.apps.media.video.verify import NotAsWanted
from muskox.apps.media.video.work import Work
from muskox.apps.media.workshop import Task

__all__ = ["VideoCraft"]


class VideoCraft:
    """Carries out `transcode` and `generate-preview`."""

    kind = Kind.VIDEO
    engine = "ffmpeg-1"

    def __init__(self, world: World, limits: Limits, tools: Tools, *, encoder: Encoder | None = None) -> None:
        self._world = world
        self._limits = limits.video
        self._tools = tools
        self._encoder = encoder or Encoder(world)
        self._prober = Prober(tools, self._encoder, limits.video)
        self._threads = max(1, (os.cpu_count() or 1) // limits.encoders)

    async def probe(self, path: Path, sniffed: Sniffed) -> dict[str, Any]:
        """See `Craft.probe`."""
        facts = await self._prober.probe(path, DEMUXERS[sniffed.format], folder=path.parent)
        return _told(facts)

    async def make(self, task: Task) -> None:
        """See `Craft.make`."""
        work = await self._prepare(task)
        transcode, preview = one_of(task.order.operations, Transcode), one_of(task.order.operations, Preview)
        weights = (video_weight(work, transcode) if transcode else 0) + (preview_weight(work) if preview else 0)
        await work.telling.probed(weights)
        try:
            if transcode:
                await make_video(work, transcode)
            if preview:
                await make_preview(work, preview)
        except NotAsWanted as error:
            # Once it may have been an accident; twice it is this file with this encoder.
            kind: type[MediaError] = Broken if task.job.attempt == 1 else Refused
            raise kind(Reason.VERIFY_FAILED, str(error)) from error

    async def _prepare(self, task: Task) -> Work:
        # Another attempt has half the threads, and so about half the need of memory.
        threads = max(1, self._threads >> (task.job.attempt - 1))
        size = await asyncio.to_thread(lambda: task.source.stat().st_size)
        studio = Studio(self._encoder, self._limits, task.desk.folder, size=size, threads=threads)
        demuxer = DEMUXERS[task.order.format]
        facts = await self._prober.probe(task.source, demuxer, folder=task.desk.folder)
        source = Source(task.source, demuxer, facts, self._tools, threads=threads)
        if facts.duration is None:
            source.duration = await studio.measure(source)
            check_duration(source.duration, self._limits)
        task.engines["ffmpeg"] = self._tools.version
        task.facts.update(_told(facts))
        if source.untonemapped:
            task.facts["hdr_untonemapped"] = True
        return Work(task, source, studio, self._prober, Telling(task.job, self._world))


def _told(facts: Facts) -> dict[str, Any]:
    """What a caller is told of a video: how it is seen, not how it is stored."""
    told: dict[str, Any] = {"format": facts.format}
    if facts.video is not None:
        width, height = facts.video.upright
        told |= {"width": width, "height": height, "codec": facts.video.codec, "rate": facts.video.fps}
    if facts.duration is not None:
        told["duration"] = round(facts.duration, 3)
    if facts.audio is not None:
        told["sound"] = facts.audio.codec
    return told
