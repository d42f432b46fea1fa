"""Takes out of a file what tells of its maker and leaves its pixels as they are, byte for byte.

For pictures that are small enough already: writing them anew would only make
them worse. It reads the outer structure of a format and nothing within it, and
gives None where it does not know its way.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

__all__ = ["strip"]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEEPS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs"}
_WEBP_DROPS = {b"EXIF", b"XMP ", b"ICCP"}
_WEBP_FLAGS = 0x20 | 0x08 | 0x04
_SOI, _SOS, _EOI, _COM = 0xD8, 0xDA, 0xD9, 0xFE
_APP0, _ADOBE, _APP15 = 0xE0, 0xEE, 0xEF
_ALONE = {0x01, *range(0xD0, 0xD8)}


def strip(data: bytes, format: str) -> bytes | None:  # noqa: A002 - our word for it
    """The same picture without metadata, comments and what stands behind its end; None where that is not known."""
    strippers: dict[str, Callable[[bytes], bytes | None]] = {"jpeg": _jpeg, "png": _png, "webp": _webp}
    stripper = strippers.get(format)
    if stripper is None:
        return None
    try:
        return stripper(data)
    except (IndexError, struct.error):
        return None


def _jpeg(data: bytes) -> bytes | None:
    parts, at = [data[:2]], 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == _EOI:
            return b"".join([*parts, data[at : at + 2]])
        if marker in _ALONE:
            parts.append(data[at : at + 2])
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end < at + 4:
            return None
        if marker == _SOS:
            end = _end_of_scan(data, end)
        if _jpeg_keeps(marker, data[at + 4 : at + 9]):
            parts.append(data[at:end])
        at = end
    return None


def _jpeg_keeps(marker: int, head: bytes) -> bool:
    """What says how the colours are meant stays: JFIF and Adobe's mark."""
    if marker == _APP0:
        return head == b"JFIF\0"
    if marker == _ADOBE:
        return head == b"Adobe"
    return not (_APP0 < marker <= _APP15 or marker == _COM)


def _end_of_scan(data: bytes, at: int) -> int:
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise IndexError("the scan has no end")
        following = data[at + 1]
        if following and following not in _ALONE and following != 0xFF:
            return at
        at += 1 if following == 0xFF else 2


def _png(data: bytes) -> bytes | None:
    parts, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return None
        if kind in _PNG_KEEPS:
            parts.append(data[at:end])
        if kind == b"IEND":
            return b"".join(parts)
        at = end
    return None


def _webp(data: bytes) -> bytes | None:
    parts, at, end = [], 12, 8 + int.from_bytes(data[4:8], "little")
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or not at < end <= len(data):
        return None
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, at)
        following = at + 8 + size + size % 2
        if following > end + 1:
            return None
        chunk = data[at:following]
        if kind == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~_WEBP_FLAGS]) + chunk[9:]
        if kind not in _WEBP_DROPS:
            parts.append(chunk)
        at = following
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
