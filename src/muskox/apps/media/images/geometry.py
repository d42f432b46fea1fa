"""The arithmetic of sizes: how large an output becomes, what is cut away, and how small a decoder may begin.

Whole numbers in and out; it knows no pixels. All sizes are of the upright
picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from muskox.apps.media.operations import Fit

__all__ = ["Placing", "Size", "jpeg_shrink", "place"]


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def turned(self) -> Size:
        """The same, lying on its side."""
        return Size(self.height, self.width)

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Placing:
    """Scale the picture to `scaled`, cut `canvas` out of it or put it onto one of that size."""

    scaled: Size
    canvas: Size


def place(source: Size, box: Size, fit: Fit, *, enlarge: bool) -> Placing:
    """Say how a picture is put into a box.

    `inside`: all of it within the box. `outside`: the box within it. `cover`: as outside, and the rest cut off.
    `contain`: as inside, and the rest filled. `fill`: stretched. Without `enlarge` nothing is scaled up.
    """
    if fit == "fill":
        scaled = box if enlarge else Size(min(box.width, source.width), min(box.height, source.height))
        return Placing(scaled, scaled)
    across, down = box.width / source.width, box.height / source.height
    scale = max(across, down) if fit in {"cover", "outside"} else min(across, down)
    scale = scale if enlarge else min(1.0, scale)
    scaled = Size(max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    match fit:
        case "cover":
            return Placing(scaled, Size(min(box.width, scaled.width), min(box.height, scaled.height)))
        case "contain":
            return Placing(scaled, box)
        case _:
            return Placing(scaled, scaled)


def jpeg_shrink(source: Size, largest: Size) -> int:
    """By how much (1, 2, 4 or 8) a decoder may shrink and still give twice of what is needed, both ways."""
    for shrink in (8, 4, 2):
        if source.width >= 2 * shrink * largest.width and source.height >= 2 * shrink * largest.height:
            return shrink
    return 1
