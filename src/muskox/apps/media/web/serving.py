"""Gives bytes out: all or a range of them, named by their content, and so that no browser takes them for a page."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response, StreamingResponse

from muskox.apps.media.names import disposition

__all__ = ["serve"]

_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")
_SHOWN = ("image/", "video/", "audio/")


async def serve(
    fd: int, request: Mapping[str, str], *, size: int, sha256: str, media_type: str, name: str, forever: bool
) -> Response:
    """Answer with the bytes behind a descriptor, which is closed in any case; `request` are the request's headers.

    `forever`: whoever has these bytes under this address need not ask again.
    """
    tag = f'"{sha256}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable" if forever else "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Disposition": disposition("inline" if media_type.startswith(_SHOWN) else "attachment", name),
    }
    if _is_known(request.get("if-none-match"), tag):
        os.close(fd)
        return Response(status_code=304, headers=headers)
    part = _range(request, size, tag)
    if part is None:
        os.close(fd)
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    first, last = part
    status = 206 if _RANGE.fullmatch(request.get("range", "")) and _fresh(request, tag) else 200
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    return StreamingResponse(_pieces(fd, first, last), status, headers=headers, media_type=media_type)


def _is_known(told: str | None, tag: str) -> bool:
    if told is None:
        return False
    return told.strip() == "*" or tag in {entry.strip().removeprefix("W/") for entry in told.split(",")}


def _fresh(request: Mapping[str, str], tag: str) -> bool:
    return request.get("if-range", tag) == tag


def _range(request: Mapping[str, str], size: int, tag: str) -> tuple[int, int] | None:
    """First and last byte to give; None where there are no such bytes. What is not understood means all of them."""
    whole = 0, size - 1
    found = _RANGE.fullmatch(request.get("range", ""))
    if found is None or not _fresh(request, tag):
        return whole
    first, last = found["first"], found["last"]
    if not first and not last:
        return whole
    if not first:
        return (max(0, size - int(last)), size - 1) if int(last) else None
    end = min(int(last), size - 1) if last else size - 1
    if int(first) >= size or (last and int(last) < int(first)):
        return None
    return int(first), end


async def _pieces(fd: int, first: int, last: int) -> AsyncIterator[bytes]:
    try:
        at = first
        while at <= last:
            piece = await asyncio.to_thread(os.pread, fd, min(_PIECE, last - at + 1), at)
            if not piece:
                return  # shorter than it was; the length that was promised tells the reader
            at += len(piece)
            yield piece
    finally:
        os.close(fd)
