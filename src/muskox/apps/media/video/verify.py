"""Looks at what was made before anybody else does: that it is what was asked for, and can be played to its end.

It reads only files of our own making, and trusts the encoder in nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from muskox.apps.media.errors import MediaError, Reason, Refused
from muskox.apps.media.video.boxes import index_comes_first
from muskox.apps.media.video.commands import Source, decode_ends
from muskox.apps.media.video.facts import Facts
from muskox.apps.media.video.probe import Prober
from muskox.apps.media.video.studio import Studio
from muskox.apps.media.video.tools import Tools

__all__ = ["NotAsWanted", "Wanted", "agrees", "check_clip", "check_picture", "look"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a video must be like: its sides, and whether there is sound."""

    size: tuple[int, int]
    sound: bool


def agrees(found: float | None, wanted: float | None) -> bool:
    """Whether two durations are the same, as far as frames and codecs allow."""
    if wanted is None:
        return found is not None and found > 0
    return found is not None and abs(found - wanted) <= max(0.5, 0.01 * wanted)


async def look(prober: Prober, path: Path) -> Facts:
    """Say what was made. Raises `NotAsWanted` where it cannot be opened."""
    try:
        return await prober.look(path, "mov", folder=path.parent)
    except Refused as error:
        raise NotAsWanted(f"{path.name} cannot be opened: {error.text}") from error


async def check_clip(path: Path, facts: Facts, wanted: Wanted, studio: Studio, tools: Tools) -> None:
    """Raise `NotAsWanted` for the first fault of a video, but for its duration."""
    video, audio = facts.video, facts.audio
    if video is None or video.codec != "h264" or video.pixels not in ("yuv420p", "yuvj420p"):
        raise NotAsWanted(f"{path.name} has no H.264 picture in 4:2:0")
    if (video.width, video.height) != wanted.size or video.turned or not video.square:
        raise NotAsWanted(f"{path.name} is {video.width} × {video.height}, not {wanted.size[0]} × {wanted.size[1]}")
    if (audio is not None) != wanted.sound or (audio is not None and audio.codec != "aac"):
        raise NotAsWanted(f"{path.name} has not the sound that it should have")
    if facts.others or facts.chapters:
        raise NotAsWanted(f"{path.name} has streams or chapters that it should not have")
    if not index_comes_first(path):
        raise NotAsWanted(f"{path.name} has its index at the end")
    made = Source(path, "mov", facts, tools, threads=1)
    try:
        complaint = await studio.run(decode_ends(made))
    except MediaError as error:
        if error.reason in (Reason.STALLED, Reason.TIMEOUT, Reason.OUT_OF_MEMORY):
            raise
        raise NotAsWanted(f"{path.name} cannot be decoded: {error.text}") from error
    if complaint:
        raise NotAsWanted(f"{path.name} decodes with errors: {complaint.rpartition(chr(10))[2][-200:]}")


def check_picture(path: Path, size: tuple[int, int]) -> None:
    """Raise `NotAsWanted` for a picture that is no whole JPEG of that size."""
    data = path.read_bytes() if path.exists() else b""
    if not data.startswith(b"\xff\xd8") or not data.endswith(b"\xff\xd9"):
        raise NotAsWanted(f"{path.name} is no whole JPEG")
    found = _jpeg_size(data)
    if found != size:
        raise NotAsWanted(f"{path.name} is {found}, not {size}")


class NotAsWanted(Exception):
    """What was made is not what it should be; whether to try again, and whose fault it is, is for the caller to say."""


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the frame header tells."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
