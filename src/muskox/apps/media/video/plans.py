"""Works out what shall become of a video: sizes, whether it must be encoded at all, where a preview looks.

Plain calculations on what a probe has found; nothing is run here.
"""

from __future__ import annotations

import math

import msgspec

from muskox.apps.media.operations import Preview, Transcode
from muskox.apps.media.video.facts import Facts, VideoFacts

__all__ = ["Storyboard", "fits", "is_compliant", "pieces", "storyboard"]

REMUXED_FROM = ("mov", "matroska", "mpegts")
PROFILES = frozenset({"Baseline", "Constrained Baseline", "Main", "High"})
COLUMNS, TILES, TILE_WIDTH = 10, 100, 160


def fits(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The largest even sides that lie inside `width` × `height` with the shape of `size`; never larger than it."""
    scale = min(width / size[0], height / size[1], 1.0)
    return _even(size[0] * scale), _even(size[1] * scale)


def _even(side: float) -> int:
    # To the nearest whole number first: 1079.9999 is 1080.
    return max(2, round(side) // 2 * 2)


def is_compliant(facts: Facts, demuxer: str, options: Transcode) -> bool:
    """Whether the streams may stay as they are and only need a new container."""
    video, audio = facts.video, facts.audio
    if video is None or demuxer not in REMUXED_FROM:
        return False
    good_audio = audio is None or (audio.codec == "aac" and audio.profile in ("", "LC") and 1 <= audio.channels <= 2)
    good_picture = (
        video.codec == "h264"
        and video.profile in PROFILES
        and video.pixels == "yuv420p"
        and video.square
        and not video.turned
        and not video.hdr
        and (video.width, video.height) == fits((video.width, video.height), options.width, options.height)
    )
    return good_audio and good_picture and video.fps is not None and video.fps <= options.max_rate


def pieces(duration: float | None, options: Preview) -> list[tuple[float, float]]:
    """Start and length of what a clip is made of: three pieces of a long video, else its beginning."""
    whole = options.clip_seconds
    if duration is None or duration <= 2 * whole:
        return [(0.0, whole if duration is None else min(whole, duration))]
    piece = whole / 3
    return [(min(duration * at, duration - piece), piece) for at in (0.2, 0.5, 0.8)]


class Storyboard(msgspec.Struct, frozen=True):
    """A sheet of small pictures: one for each `interval` seconds."""

    count: int
    columns: int
    rows: int
    width: int
    height: int
    duration: float

    @property
    def interval(self) -> float:
        return self.duration / self.count

    def cues(self, sheet: str) -> str:
        """WebVTT: which part of the sheet to show at which time."""
        blocks = ["WEBVTT"]
        for at in range(self.count):
            x, y = at % self.columns * self.width, at // self.columns * self.height
            times = f"{_clock(at * self.interval)} --> {_clock((at + 1) * self.interval)}"
            blocks.append(f"{times}\n{sheet}#xywh={x},{y},{self.width},{self.height}")
        return "\n\n".join(blocks) + "\n"


def storyboard(video: VideoFacts, duration: float) -> Storyboard:
    """Plan a sheet with a picture for each second, or as many as it may have."""
    count = max(1, min(TILES, math.ceil(round(duration, 3))))
    columns = min(COLUMNS, count)
    width, height = fits(video.upright, TILE_WIDTH, 8192)
    return Storyboard(count, columns, math.ceil(count / columns), width, height, duration)


def _clock(seconds: float) -> str:
    millis = round(seconds * 1000)
    return f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02}.{millis % 1000:03}"
