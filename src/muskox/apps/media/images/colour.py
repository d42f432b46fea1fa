"""Brings colours to what every screen takes: eight bits of sRGB, or of grey where there is no colour."""

from __future__ import annotations

from typing import Any

import pyvips

__all__ = ["flat", "has_alpha", "to_srgb"]

_GREY = {"b-w", "grey16"}
_DEEP = {"rgb16", "grey16"}


def has_alpha(image: Any) -> bool:
    """Whether the last band says how much of a pixel is there."""
    return bool(image.hasalpha())


def to_srgb(image: Any) -> Any:
    """Convert by the profile in the picture, else by what it is said to be; grey stays one band."""
    if image.interpretation in _GREY:
        return image.colourspace("b-w")
    cmyk = image.interpretation == "cmyk"
    if cmyk or image.get_typeof("icc-profile-data"):
        try:
            return image.icc_transform("srgb", embedded=True, input_profile="cmyk" if cmyk else "srgb")
        except pyvips.Error:
            pass  # a profile that cannot be used is no reason to refuse the picture
    return image.colourspace("srgb")


def flat(image: Any, background: str) -> Any:
    """Lay a picture with holes on a colour such as `#ffffff`."""
    if not has_alpha(image):
        return image
    red, green, blue = (int(background[at : at + 2], 16) for at in (1, 3, 5))
    colours = [red, green, blue] if image.bands > 2 else [round(0.2126 * red + 0.7152 * green + 0.0722 * blue)]
    return image.flatten(background=colours)
