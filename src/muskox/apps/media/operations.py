"""What may be asked to be made of a file: a closed vocabulary, each option with its range and its default.

Values only. A request is read here and nowhere else, so that no text of a
caller's ever reaches an encoder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from muskox.apps.media.errors import BadOptions
from muskox.apps.media.kinds import Kind

__all__ = [
    "Compress",
    "Fit",
    "Format",
    "ImageOperation",
    "Operation",
    "Position",
    "Preview",
    "Resize",
    "Thumbnail",
    "Transcode",
    "VideoOperation",
    "default_operations",
    "one_of",
    "plain",
    "read_operations",
]

Side = Annotated[int, Meta(ge=1, le=16_383)]
"""The longest side that all formats can hold; WebP sets it."""
Even = Annotated[int, Meta(ge=16, le=8192, multiple_of=2)]
Quality = Annotated[int, Meta(ge=1, le=100)]
Colour = Annotated[str, Meta(pattern="^#[0-9a-fA-F]{6}$")]
Fit = Literal["inside", "cover", "contain", "fill", "outside"]
Format = Literal["same", "jpeg", "png", "webp", "avif"]
Position = Literal["centre", "entropy", "attention"]


class _Common(Struct, frozen=True, forbid_unknown_fields=True, tag_field="operation"):
    pass


class Resize(_Common, frozen=True, tag="resize"):
    """Give the processed picture its size. `animated` keeps the frames of a GIF or WebP."""

    width: Side = 1920
    height: Side = 1080
    fit: Fit = "inside"
    enlarge: bool = False
    position: Position = "centre"
    animated: bool = False
    format: Format = "same"


class Compress(_Common, frozen=True, tag="compress"):
    """Say how the processed picture is written. `subsampling` auto: 4:2:0, and 4:4:4 from quality 90."""

    format: Format = "jpeg"
    quality: Quality = 85
    progressive: bool = True
    subsampling: Literal["auto", "4:2:0", "4:4:4"] = "auto"
    background: Colour = "#ffffff"


class Thumbnail(_Common, frozen=True, tag="generate-thumbnail"):
    """Make a small picture of exactly this size, whatever the size of the source."""

    width: Side = 300
    height: Side = 300
    fit: Fit = "cover"
    enlarge: bool = True
    position: Position = "centre"
    format: Format = "jpeg"
    quality: Quality = 80
    background: Colour = "#ffffff"


class Transcode(_Common, frozen=True, tag="transcode"):
    """Make an MP4 that plays everywhere, inside this size."""

    width: Even = 1920
    height: Even = 1080
    crf: Annotated[int, Meta(ge=15, le=40)] = 23
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = "veryfast"
    audio_bitrate: Annotated[int, Meta(ge=32, le=320)] = 128
    max_rate: Annotated[int, Meta(ge=1, le=60)] = 60


class Preview(_Common, frozen=True, tag="generate-preview"):
    """Make a poster, a short clip without sound and, unless that is said not to be, a storyboard."""

    poster_width: Even = 640
    clip_width: Even = 480
    clip_seconds: Annotated[float, Meta(ge=1, le=30)] = 6.0
    storyboard: bool = True


ImageOperation = Resize | Compress | Thumbnail
VideoOperation = Transcode | Preview
Operation = ImageOperation | VideoOperation

_TYPES: dict[Kind, Any] = {Kind.IMAGE: list[ImageOperation], Kind.VIDEO: list[VideoOperation]}
_DEFAULTS: dict[Kind, tuple[Operation, ...]] = {
    Kind.IMAGE: (Resize(), Compress(), Thumbnail()),
    Kind.VIDEO: (Transcode(), Preview()),
}
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\[(?P<index>\d+)\]|\.(?P<name>\w+)|\[\.\.\.\]")


def default_operations(kind: Kind) -> list[Operation]:
    """What is made when nobody says otherwise: all of it."""
    return list(_DEFAULTS[kind])


def read_operations(kind: Kind, given: Any, *, pointer: str = "/operations") -> list[Operation]:
    """Read what was asked for: operations as `{"operation": name, …}`, or their names alone.

    Raises `BadOptions` for the first that cannot be, with a pointer to it.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise BadOptions("operations must be a list with at least one operation in it", pointer)
    if len(given) > 8:
        raise BadOptions("operations has too many entries; each operation may stand there once", pointer)
    named = [{"operation": entry} if isinstance(entry, str) else entry for entry in given]
    try:
        read: list[Operation] = msgspec.convert(named, _TYPES[kind], strict=True)
    except msgspec.ValidationError as error:
        text, place = _explained(error)
        raise BadOptions(text, pointer + place) from None
    seen: set[type[Operation]] = set()
    for index, operation in enumerate(read):
        if type(operation) in seen:
            raise BadOptions("this operation stands there twice", f"{pointer}/{index}/operation")
        seen.add(type(operation))
    order = [type(operation) for operation in _DEFAULTS[kind]]
    return sorted(read, key=lambda operation: order.index(type(operation)))


def plain(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """The operations as plain values, with every option in them."""
    return [msgspec.to_builtins(operation) for operation in operations]


def one_of(operations: Sequence[Operation], kind: type[Any]) -> Any:
    """The operation of that class, or None."""
    return next((operation for operation in operations if isinstance(operation, kind)), None)


def _explained(error: msgspec.ValidationError) -> tuple[str, str]:
    text = str(error)
    found = _PLACE.search(text)
    if found is None:
        return text, ""
    steps = (step["index"] or step["name"] for step in _STEP.finditer(found["path"]))
    return text[: found.start()], "".join(f"/{step}" for step in steps if step is not None)
