"""What a file may be and what making something of it may cost: plain values, each a setting.

Values of a header are compared with these before anything is decoded. Where a
header lies, the limits of the child process are the second wall.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

__all__ = ["ImageLimits", "Limits", "VideoLimits"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """For pictures. `memory` is address space and `cpu` seconds of it, of the child that decodes."""

    bytes: int = 50 * _MIB
    pixels: int = 50_000_000
    side: int = 16_384
    frames: int = 200
    animation_pixels: int = 200_000_000
    memory: int = 1024 * _MIB
    cpu: int = 60
    wall: float = 120.0
    output_bytes: int = 200 * _MIB
    probe_wall: float = 10.0


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """For clips. `stall` is for how long an encoder may show no sign of progress, `memory` its address space.

    What is written may be `output_factor` times as large as what is read, and `output_extra` larger.
    """

    bytes: int = 2048 * _MIB
    width: int = 8192
    height: int = 4320
    rate: float = 120.0
    duration: float = 4 * 3600.0
    streams: int = 64
    memory: int = 6144 * _MIB
    wall: float = 3600.0
    stall: float = 60.0
    probe_wall: float = 10.0
    output_factor: int = 4
    output_extra: int = 100 * _MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of one media application. `children` decode pictures at the same time, `encoders` clips."""

    image: ImageLimits = field(default_factory=ImageLimits)
    video: VideoLimits = field(default_factory=VideoLimits)
    children: int = field(default_factory=lambda: max(1, os.cpu_count() or 1))
    encoders: int = field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 2))
    reserve: int = 256 * _MIB
    """So many bytes must stay free on the disk."""
    uploads: int = 100
    """So many uploads that come in pieces may be under way."""
    upload_age: float = 24 * 3600.0
    """An upload ends to which nothing was added for so many seconds."""
