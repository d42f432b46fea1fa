"""Says what a file is, from its first bytes and from nothing else: a short list of what is let in.

Names and headers of a request are what somebody says; nobody asks them here.
Whether a file is sound is found out later, by whoever reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from muskox.apps.media.errors import Reason, Refused

__all__ = ["HEAD", "Kind", "Sniffed", "sniff"]

HEAD = 4096
"""So many bytes at the beginning decide."""

_TS_PACKET = 188
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"jpeg"}
_MP4_BRANDS = {
    b"isom",
    b"avc1",
    b"mmp4",
    b"mp41",
    b"mp42",
    b"mp71",
    b"MSNV",
    b"dash",
    b"f4v ",
    b"M4V ",
    b"M4VH",
    b"M4VP",
}
_OLD_QUICKTIME = {b"moov", b"wide", b"mdat"}


class Kind(StrEnum):
    """Who makes something of a file."""

    IMAGE = "image"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What a file is: `format` is our word for it, one per reader that may open it."""

    kind: Kind
    format: str
    media_type: str


def sniff(head: bytes) -> Sniffed:
    """Say what a file is whose first bytes (`HEAD` of them, or all) are `head`.

    Raises `Refused` for an empty file and for whatever is not let in.
    """
    if not head:
        raise Refused(Reason.EMPTY, "the file has no bytes")
    found = _image(head) or _riff(head) or _boxes(head) or _stream(head)
    if found is None:
        raise Refused(
            Reason.UNSUPPORTED_TYPE,
            "this is no JPEG, PNG, WebP, GIF or AVIF picture, and no MP4, MOV, Matroska, WebM, AVI or MPEG-TS clip",
        )
    return found


def _image(head: bytes) -> Sniffed | None:
    if head.startswith(b"\xff\xd8\xff"):
        return Sniffed(Kind.IMAGE, "jpeg", "image/jpeg")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Sniffed(Kind.IMAGE, "png", "image/png")
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Sniffed(Kind.IMAGE, "gif", "image/gif")
    return None


def _riff(head: bytes) -> Sniffed | None:
    if not head.startswith(b"RIFF"):
        return None
    if head[8:12] == b"WEBP" and head[12:16] in {b"VP8 ", b"VP8L", b"VP8X"}:
        return Sniffed(Kind.IMAGE, "webp", "image/webp")
    return Sniffed(Kind.VIDEO, "avi", "video/x-msvideo") if head[8:12] == b"AVI " else None


def _boxes(head: bytes) -> Sniffed | None:
    """What is made of boxes: MP4, MOV and AVIF."""
    if head[4:8] in _OLD_QUICKTIME:
        return Sniffed(Kind.VIDEO, "mov", "video/quicktime")
    if head[4:8] != b"ftyp":
        return None
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    if not _AVIF_BRANDS.isdisjoint(brands):
        return Sniffed(Kind.IMAGE, "avif", "image/avif")
    if brands[0] in _HEIF_BRANDS:
        return None
    if brands[0] == b"qt  ":
        return Sniffed(Kind.VIDEO, "mov", "video/quicktime")
    known = any(brand in _MP4_BRANDS or brand[:3] in {b"iso", b"3gp", b"3g2"} for brand in brands)
    return Sniffed(Kind.VIDEO, "mp4", "video/mp4") if known else None


def _stream(head: bytes) -> Sniffed | None:
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        if b"webm" in head[:64]:
            return Sniffed(Kind.VIDEO, "webm", "video/webm")
        return Sniffed(Kind.VIDEO, "matroska", "video/x-matroska") if b"matroska" in head[:64] else None
    packets = head[: 5 * _TS_PACKET : _TS_PACKET]
    return Sniffed(Kind.VIDEO, "mpegts", "video/mp2t") if packets == b"G" * 5 else None
