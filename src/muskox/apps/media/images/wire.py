"""What is said between the worker and the process that decodes: one line of JSON each.

The child is not trusted: what it says is read by these types and believed no
further than that.
"""

from __future__ import annotations

from typing import Any

import msgspec

from muskox.apps.media.limits import ImageLimits
from muskox.apps.media.operations import ImageOperation

__all__ = ["LONGEST_LINE", "Bad", "Done", "FromChild", "Make", "Mark", "Probe", "Said", "ToChild", "Wrote"]

LONGEST_LINE = 65_536


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """Look at the head of a file."""

    path: str
    format: str
    limits: ImageLimits


class Make(msgspec.Struct, frozen=True, tag="make"):
    """Make the outputs whose operations are given, except for those that are `kept` already."""

    path: str
    format: str
    limits: ImageLimits
    folder: str
    operations: list[ImageOperation]
    kept: list[str]


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """A part of the way is done, in percent."""

    percent: int


class Wrote(msgspec.Struct, frozen=True, tag="wrote"):
    """A file lies in the folder, and by that a part of the way is done."""

    name: str
    width: int
    height: int
    percent: int
    kept_original: bool = False
    frames: int = 1


class Done(msgspec.Struct, frozen=True, tag="done"):
    """All that was asked for is done; what was found in the source."""

    width: int
    height: int
    frames: int
    facts: dict[str, Any] = {}
    engine: str = ""


class Bad(msgspec.Struct, frozen=True, tag="bad"):
    """It cannot be done; `reason` is one of `errors.Reason`."""

    reason: str
    text: str
    final: bool


ToChild = Probe | Make
FromChild = Mark | Wrote | Done | Bad
Said = Mark | Wrote
"""What is told on the way."""
