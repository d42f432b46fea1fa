"""Writes pictures: one way per format, with nothing in the file but pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muskox.apps.media.images.colour import flat

__all__ = ["EXTENSIONS", "MEDIA_TYPES", "Writing", "write"]

EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif", "gif": "gif"}
MEDIA_TYPES = {ending: f"image/{name}" for name, ending in EXTENSIONS.items()}


@dataclass(frozen=True, slots=True)
class Writing:
    """How a picture is written; each format takes what it knows of."""

    format: str
    quality: int = 85
    progressive: bool = True
    subsampling: str = "auto"
    background: str = "#ffffff"


def write(image: Any, path: Path, how: Writing) -> None:
    """Write 8-bit pixels to a file."""
    target = str(path)
    match how.format:
        case "jpeg":
            flat(image, how.background).jpegsave(
                target,
                Q=how.quality,
                interlace=how.progressive,
                optimize_coding=True,
                subsample_mode={"auto": "auto", "4:2:0": "on", "4:4:4": "off"}[how.subsampling],
                keep="none",
            )
        case "png":
            image.pngsave(target, compression=6, keep="none")
        case "webp":
            image.webpsave(target, Q=how.quality, effort=4, min_size=False, keep="none")
        case "avif":
            image.heifsave(target, compression="av1", Q=how.quality, effort=2, keep="none")
        case _:
            image.gifsave(target, effort=4, keep="none")
