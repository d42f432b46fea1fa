"""What is to be made of a file, reduced to a name: the same source and the same recipe give the same bytes.

A recipe is the operations with every option filled in, and who carries them
out. Its hash names the folder of what was made; the manifest in there says what
that is.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

__all__ = ["Made", "Manifest", "Recipe"]

VERSION = 1
"""Goes up when the same operations give other bytes than before."""


class Recipe(msgspec.Struct, frozen=True):
    """Operations as plain values, all defaults filled in; `engine` is who carries them out, such as `libvips-8`."""

    kind: str
    engine: str
    operations: list[dict[str, Any]]
    version: int = VERSION

    @property
    def hash(self) -> str:
        """64 hexadecimal digits that stand for this recipe."""
        text = json.dumps(msgspec.to_builtins(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Made(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file that was made: what lies there, and what a reader wants to know of it beforehand."""

    name: str
    media_type: str
    bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    facts: dict[str, Any] = {}
    """More that its maker tells, such as `kept_original` or `remuxed`."""


class Manifest(msgspec.Struct, frozen=True):
    """`manifest.json`: what was made of which source by which recipe, and how long it took."""

    source: str
    recipe: Recipe
    outputs: list[Made]
    engines: dict[str, str]
    seconds: float
    facts: dict[str, Any] = {}
    """What was found in the source."""

    def output(self, name: str) -> Made | None:
        """The output of that name."""
        return next((made for made in self.outputs if made.name == name), None)
