"""What is known of a video before anything is decoded: plain values, whoever found them out."""

from __future__ import annotations

from fractions import Fraction

import msgspec

__all__ = ["AudioFacts", "Facts", "VideoFacts"]

HDR = frozenset({"smpte2084", "arib-std-b67"})


class VideoFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The first stream of moving pictures; `index` is its place among all streams.

    `width` and `height` are as stored, `rotation` in degrees counter-clockwise, `aspect` the shape of a pixel.
    """

    index: int
    codec: str
    width: int
    height: int
    profile: str = ""
    pixels: str = ""
    aspect: tuple[int, int] = (1, 1)
    rotation: float = 0.0
    fps: float | None = None
    transfer: str = ""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as they are seen, with square pixels and turned as it is to be shown."""
        shape = Fraction(*self.aspect)
        # Pixels are only ever made more, so that no detail is lost.
        width, height = (
            (round(self.width * shape), self.height) if shape >= 1 else (self.width, round(self.height / shape))
        )
        return (height, width) if round(self.rotation / 90) % 2 else (width, height)

    @property
    def turned(self) -> bool:
        return self.rotation % 360 != 0

    @property
    def square(self) -> bool:
        return self.aspect[0] == self.aspect[1]

    @property
    def hdr(self) -> bool:
        return self.transfer in HDR

    @property
    def rgb(self) -> bool:
        return self.pixels.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8"))


class AudioFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The first stream of sound."""

    index: int
    codec: str
    profile: str = ""
    channels: int = 0
    rate: int = 0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """A file as a whole; `streams` counts all of them, `tags` are what it says of itself."""

    format: str
    streams: int
    duration: float | None = None
    video: VideoFacts | None = None
    audio: AudioFacts | None = None
    tags: dict[str, str] = {}
    others: int = 0
    chapters: int = 0
