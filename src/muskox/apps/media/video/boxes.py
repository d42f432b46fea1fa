"""Walks the boxes of an MP4 file without decoding anything, to see where its index stands.

It reads headers only, and believes no size that leads out of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["index_comes_first", "top_boxes"]

_MOST = 10_000


def top_boxes(path: Path) -> list[tuple[bytes, int, int]]:
    """Kind, start and size of each box at the top of the file; stops where the file makes no sense."""
    with path.open("rb") as file:
        return list(_walk(file, path.stat().st_size))


def index_comes_first(path: Path) -> bool:
    """Whether a player can begin before it has all of the file."""
    kinds = [kind for kind, _, _ in top_boxes(path)]
    return b"moov" in kinds and b"mdat" in kinds and kinds.index(b"moov") < kinds.index(b"mdat")


def _walk(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    at = 0
    for _ in range(_MOST):
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        elif size == 0:
            size = end - at
        if size < 8 or at + size > end:
            return
        yield kind, at, size
        at += size
