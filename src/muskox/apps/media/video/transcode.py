"""Makes `video.mp4`, which plays everywhere and at once: encoded anew, or in a new container where that is enough."""

from __future__ import annotations

from pathlib import Path

from muskox.apps.media.errors import Reason, Refused
from muskox.apps.media.operations import Transcode
from muskox.apps.media.video.commands import encode, remux
from muskox.apps.media.video.facts import Facts
from muskox.apps.media.video.plans import fits, is_compliant
from muskox.apps.media.video.verify import NotAsWanted, Wanted, agrees, check_clip, look
from muskox.apps.media.video.work import DECODING, Work, pixels

__all__ = ["NAME", "make_video", "video_weight"]

NAME = "video.mp4"
COPYING = 0.005
"""What it costs to copy a stream, measured by encoding it."""


def video_weight(work: Work, options: Transcode) -> float:
    """What it is expected to cost."""
    source = work.source
    seconds = source.duration or 1.0
    target = fits(source.video.upright, options.width, options.height)
    whole = seconds * (pixels(target) + DECODING * pixels(source.video.upright))
    return whole * COPYING if is_compliant(source.facts, source.demuxer, options) else whole


async def make_video(work: Work, options: Transcode) -> None:
    """Make it, check it and keep it, unless an earlier attempt has."""
    weight = video_weight(work, options)
    if work.task.kept(NAME) is not None:
        return await work.skip(weight)
    source, out = work.source, work.task.desk.path(NAME)
    as_it_is = is_compliant(source.facts, source.demuxer, options)
    argv = remux(source, out) if as_it_is else encode(source, options, out)
    complaint = await work.step("transcode", argv, weight=weight, duration=source.duration)
    await work.telling.verifying()
    made = await _verified(work, options, out, complaint)
    facts: dict[str, object] = {"remuxed": True} if as_it_is else {}
    if complaint:
        facts["warnings"] = complaint.count("\n") + 1
    width, height = (made.video.width, made.video.height) if made.video else (0, 0)
    await work.task.keep(NAME, "video/mp4", width=width, height=height, duration=made.duration, facts=facts)
    return None


async def _verified(work: Work, options: Transcode, out: Path, complaint: str) -> Facts:
    source = work.source
    size = fits(source.video.upright, options.width, options.height)
    wanted = Wanted(size, source.facts.audio is not None)
    try:
        made = await look(work.prober, out)
        await _check_duration(work, made.duration, complaint)
        await check_clip(out, made, wanted, work.studio, source.tools)
    except NotAsWanted as error:
        if complaint:
            # The encoder has said what was wrong, and it was wrong with what it read.
            raise Refused(Reason.CORRUPT, f"{error}; the encoder said: {_last(complaint)}") from error
        raise
    return made


async def _check_duration(work: Work, found: float | None, complaint: str) -> None:
    if agrees(found, work.source.duration):
        return
    if not complaint and agrees(found, await work.studio.measure(work.source)):
        return  # the head of the source has told a lie
    raise NotAsWanted(f"{NAME} lasts {found or 0:g} s, and the source {work.source.duration or 0:g} s")


def _last(complaint: str) -> str:
    return complaint.rpartition("\n")[2][-200:]
