"""Looks at a video without decoding it: what streams it has, and whether it is within the limits.

It asks ffprobe where there is one, else ffmpeg, whose answer is for people. What
a file says of itself may be a lie; the limits of the child are the second wall.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from muskox.apps.media.errors import Broken, Reason, Refused
from muskox.apps.media.limits import VideoLimits
from muskox.apps.media.video.commands import opened
from muskox.apps.media.video.encoder import Encoder, Reins
from muskox.apps.media.video.errors import EncoderFailed
from muskox.apps.media.video.facts import Facts
from muskox.apps.media.video.read_json import read_json
from muskox.apps.media.video.read_text import read_text
from muskox.apps.media.video.tools import Tools

__all__ = ["DEMUXERS", "Prober", "check_duration"]

MOST_SAID = 4 * 1024 * 1024

DEMUXERS = {"mp4": "mov", "mov": "mov", "webm": "matroska", "matroska": "matroska", "avi": "avi", "mpegts": "mpegts"}
"""Which reader of ffmpeg's may open what was sniffed. Playlists have none: they would make it open what they name."""


class Prober:
    """Looks at files with the tools at hand."""

    def __init__(self, tools: Tools, encoder: Encoder, limits: VideoLimits) -> None:
        self._tools = tools
        self._encoder = encoder
        self._limits = limits

    async def probe(self, path: Path, demuxer: str, *, folder: Path) -> Facts:
        """Tell what a file is. Raises `Refused` for what is no video or is beyond a limit."""
        size = await asyncio.to_thread(lambda: path.stat().st_size)
        if size > self._limits.bytes:
            raise Refused(Reason.TOO_LARGE, f"the file has {size} bytes, and {self._limits.bytes} are allowed")
        facts = await self.look(path, demuxer, folder=folder)
        _check(facts, self._limits)
        return facts

    async def look(self, path: Path, demuxer: str, *, folder: Path) -> Facts:
        """Tell what a file is, whatever its limits: for files of our own."""
        said = bytearray()

        async def hear(data: bytes) -> None:
            if len(said) < MOST_SAID:
                said.extend(data)

        complaint = ""
        try:
            complaint = await self._encoder.run(
                self._words(path, demuxer), folder=folder, reins=self._reins(), hear=hear
            )
        except EncoderFailed as error:
            # ffmpeg that is told to do nothing with a file looks at it, and then ends with a code.
            complaint = error.complaint
        except Broken as error:
            raise Refused(Reason.CORRUPT, f"looking at the file came to no end: {error.text}") from error
        facts = read_text(complaint) if self._tools.ffprobe is None else read_json(bytes(said))
        if facts is None:
            raise Refused(Reason.CORRUPT, f"the file cannot be opened: {_last(complaint)}")
        return facts

    def _words(self, path: Path, demuxer: str) -> list[str]:
        if self._tools.ffprobe is None:
            return [self._tools.ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "info", *opened(path, demuxer)]
        asked = ["-show_format", "-show_streams", "-show_chapters", "-of", "json"]
        return [self._tools.ffprobe, "-v", "error", *asked, *opened(path, demuxer)]

    def _reins(self) -> Reins:
        limits = self._limits
        return Reins(wall=limits.probe_wall, cpu=limits.probe_wall, memory=limits.memory, output=1024 * 1024, grace=1.0)


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2].rpartition(": ")[2][-200:]


def _check(facts: Facts, limits: VideoLimits) -> None:
    """Raise `Refused` for the first limit that is passed."""
    video = facts.video
    if facts.streams > limits.streams:
        raise Refused(Reason.TOO_MANY_STREAMS, f"it has {facts.streams} streams, and {limits.streams} are allowed")
    if video is None:
        raise Refused(Reason.NO_VIDEO, "there is no picture in it that moves")
    if video.width < 1 or video.height < 1:
        raise Refused(Reason.CORRUPT, "it does not say how large its picture is")
    # Upright or lying: a limit of 8192 × 4320 is one of 4320 × 8192 as well.
    sides, allowed = sorted((video.width, video.height)), sorted((limits.width, limits.height))
    if sides[0] > allowed[0] or sides[1] > allowed[1]:
        text = f"it has {video.width} × {video.height} pixels, and {limits.width} × {limits.height} are allowed"
        raise Refused(Reason.TOO_MANY_PIXELS, text)
    if video.fps is not None and video.fps > limits.rate:
        raise Refused(Reason.TOO_MANY_FRAMES, f"it has {video.fps:g} frames a second, and {limits.rate:g} are allowed")
    check_duration(facts.duration, limits)


def check_duration(duration: float | None, limits: VideoLimits) -> None:
    """Raise `Refused` for what lasts too long, or no time at all; what is not known is let pass."""
    if duration is not None and duration > limits.duration:
        raise Refused(Reason.TOO_LONG, f"it lasts {duration:g} s, and {limits.duration:g} s are allowed")
    if duration is not None and duration <= 0:
        raise Refused(Reason.CORRUPT, "it lasts no time at all")
