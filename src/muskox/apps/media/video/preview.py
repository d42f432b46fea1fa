"""Makes what is shown of a video before it is played: a poster, a short clip, and a storyboard for the time line."""

from __future__ import annotations

import asyncio

from muskox.apps.media.operations import Preview
from muskox.apps.media.video.commands import LONG, clip, poster, sheet
from muskox.apps.media.video.plans import fits, pieces, storyboard
from muskox.apps.media.video.verify import NotAsWanted, Wanted, agrees, check_clip, check_picture, look
from muskox.apps.media.video.work import DECODING, Work, pixels

__all__ = ["make_preview", "preview_weight"]

CLIP_SECONDS = 6.0
KEYS_ONLY = 0.05
"""What it costs to decode key frames alone, measured by decoding all."""


def preview_weight(work: Work) -> float:
    """What it is expected to cost: for the most part, decoding the video three times."""
    return 2 * _looking(work) + _clipping(work)


def _looking(work: Work) -> float:
    seconds = work.source.duration or 1.0
    return seconds * DECODING * pixels(work.source.video.upright) * (KEYS_ONLY if seconds > LONG else 1.0)


def _clipping(work: Work) -> float:
    upright = work.source.video.upright
    return CLIP_SECONDS * (DECODING * pixels(upright) + pixels(fits(upright, 480, 8192)))


async def make_preview(work: Work, options: Preview) -> None:
    """Make, check and keep each of them, unless an earlier attempt has."""
    await _poster(work, options)
    await _clip(work, options)
    if options.storyboard and work.source.duration is not None:
        await _storyboard(work, work.source.duration)


async def _poster(work: Work, options: Preview) -> None:
    name = "poster.jpg"
    if work.task.kept(name) is not None:
        return await work.skip(_looking(work))
    out = work.task.desk.path(name)
    size = fits(work.source.video.upright, options.poster_width, 8192)
    await work.step("poster", poster(work.source, options, out), weight=_looking(work), duration=0)
    if not out.exists():
        # All of it is black, or white: then that is what it looks like.
        await work.studio.run(poster(work.source, options, out, any_frame=True))
    await asyncio.to_thread(check_picture, out, size)
    await work.task.keep(name, "image/jpeg", width=size[0], height=size[1])
    return None


async def _clip(work: Work, options: Preview) -> None:
    name = "preview.mp4"
    if work.task.kept(name) is not None:
        return await work.skip(_clipping(work))
    out, source = work.task.desk.path(name), work.source
    duration = sum(length for _, length in pieces(source.duration, options))
    await work.step("preview", clip(source, options, out), weight=_clipping(work), duration=duration)
    await work.telling.verifying()
    made = await look(work.prober, out)
    size = fits(source.video.upright, options.clip_width, 8192)
    if source.duration is not None and not agrees(made.duration, duration):
        raise NotAsWanted(f"{name} lasts {made.duration or 0:g} s and not {duration:g} s")
    await check_clip(out, made, Wanted(size, sound=False), work.studio, source.tools)
    await work.task.keep(name, "video/mp4", width=size[0], height=size[1], duration=made.duration)
    return None


async def _storyboard(work: Work, duration: float) -> None:
    picture, cues = "storyboard.jpg", "storyboard.vtt"
    if work.task.kept(picture) is not None and work.task.kept(cues) is not None:
        return await work.skip(_looking(work))
    plan = storyboard(work.source.video, duration)
    out, text = work.task.desk.path(picture), work.task.desk.path(cues)
    await work.step("storyboard", sheet(work.source, plan, out), weight=_looking(work), duration=0)
    await work.telling.verifying()
    size = (plan.columns * plan.width, plan.rows * plan.height)
    await asyncio.to_thread(check_picture, out, size)
    await asyncio.to_thread(text.write_text, plan.cues(picture))
    facts = {"tiles": plan.count, "tile_width": plan.width, "tile_height": plan.height}
    await work.task.keep(picture, "image/jpeg", width=size[0], height=size[1], facts=facts)
    await work.task.keep(cues, "text/vtt")
    return None
