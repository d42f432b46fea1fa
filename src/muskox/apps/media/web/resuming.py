"""Uploads in several pieces over HTTP, as the tus protocol 1.0 has them, for its clients in browsers and phones.

Extensions: creation, creation-with-upload, checksum, expiration, termination.
What an upload is, and when it is a file, is known in `uploads.py`.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from email.utils import format_datetime

from fastapi import APIRouter, Request, Response

from muskox.apps.media.errors import BadOptions
from muskox.apps.media.media import Media
from muskox.apps.media.shelf import Upload
from muskox.apps.media.uploads import ALGORITHMS, Checksum, Uploads
from muskox.apps.media.web.problems import Malformed, described
from muskox.apps.media.web.receiving import patiently

__all__ = ["add_uploads"]

VERSION = "1.0.0"
_PIECE = "application/offset+octet-stream"
_LONGEST = 20
"""So many digits has no size of a file."""


def add_uploads(router: APIRouter, media: Media, uploads: Uploads) -> None:
    """Add the routes; each request is judged by itself, so that a check before the router sees every piece."""
    server = _Server(media, uploads)

    @router.options("/uploads", tags=["uploads"], status_code=204, summary="What is understood of tus")
    @router.options("/uploads/{id}", include_in_schema=False)
    async def tell_uploads() -> Response:
        """Versions, extensions, and how large a file may be."""
        return server.tell()

    @router.post(
        "/uploads",
        tags=["uploads"],
        status_code=201,
        summary="Begin an upload in several pieces (tus 1.0)",
        responses=described(400, 413, 415, 422, 429, 507),
    )
    async def begin_upload(request: Request) -> Response:
        """`Upload-Metadata` may have `filename` and `operations` (JSON); a body is the first piece."""
        return await server.begin(request)

    @router.head("/uploads/{id}", tags=["uploads"], summary="How far an upload is", responses=described(404, 410, 423))
    async def look_at_upload(id: str, request: Request) -> Response:
        """`Upload-Offset` bytes are surely kept; the next piece begins there."""
        return await server.look(id, request)

    @router.patch(
        "/uploads/{id}",
        tags=["uploads"],
        status_code=204,
        summary="Add a piece to an upload",
        responses=described(400, 404, 408, 409, 410, 413, 415, 422, 423, 507),
    )
    async def add_piece(id: str, request: Request) -> Response:
        """After the last one the file is kept and its job is added: `Content-Location` is the file then."""
        return await server.add(id, request)

    @router.delete(
        "/uploads/{id}",
        tags=["uploads"],
        status_code=204,
        summary="Give an upload up",
        responses=described(404, 410, 423),
    )
    async def end_upload(id: str, request: Request) -> Response:
        """What has come of it goes; a file that it has become stays."""
        return await server.end(id, request)

    @router.post("/uploads/{id}", include_in_schema=False)
    async def overridden(id: str, request: Request) -> Response:
        """For programs behind something that lets neither PATCH nor DELETE through."""
        match request.headers.get("x-http-method-override", "").upper():
            case "PATCH":
                return await server.add(id, request)
            case "DELETE":
                return await server.end(id, request)
            case _:
                raise Malformed("a piece is sent with PATCH; X-HTTP-Method-Override may say so")


class _Server:
    """Answers requests of the protocol."""

    def __init__(self, media: Media, uploads: Uploads) -> None:
        self._uploads = uploads
        self._most = max(media.limits.image.bytes, media.limits.video.bytes)

    def tell(self) -> Response:
        return _answer(
            204,
            {
                "Tus-Version": VERSION,
                "Tus-Extension": "creation,creation-with-upload,checksum,expiration,termination",
                "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
                "Tus-Max-Size": str(self._most),
            },
        )

    async def begin(self, request: Request) -> Response:
        if not _speaks(request):
            return _other_version()
        if "upload-defer-length" in request.headers:
            raise Malformed("an upload whose length is not known is not taken; send Upload-Length")
        given = request.headers.get("upload-metadata", "")
        said = _metadata(given)
        checksum = _checksum(request)
        upload = await self._uploads.create(
            _number(request, "upload-length"),
            metadata=given,
            name=said.get("filename", said.get("name", "")),
            operations=said.get("operations"),
        )
        headers = {"Location": str(request.url_for("add_piece", id=upload.id).path)}
        if request.headers.get("content-type") == _PIECE:
            length = _length(request)
            upload = await self._uploads.append(upload.id, 0, patiently(request), length=length, checksum=checksum)
        return _answer(201, {**headers, **_place(upload), **_expiry(upload)})

    async def look(self, id: str, request: Request) -> Response:
        if not _speaks(request):
            return _other_version()
        upload = await self._uploads.look(id)
        known = {"Upload-Metadata": upload.metadata} if upload.metadata else {}
        return _answer(200, {"Upload-Length": str(upload.length), **known, **_place(upload), **_expiry(upload)})

    async def add(self, id: str, request: Request) -> Response:
        if not _speaks(request):
            return _other_version()
        if request.headers.get("content-type") != _PIECE:
            return _answer(415, {"Connection": "close", "Accept-Patch": _PIECE})
        upload = await self._uploads.append(
            id,
            _number(request, "upload-offset"),
            patiently(request),
            length=_length(request),
            checksum=_checksum(request),
        )
        return _answer(204, {**_place(upload), **_expiry(upload)})

    async def end(self, id: str, request: Request) -> Response:
        if not _speaks(request):
            return _other_version()
        await self._uploads.drop(id)
        return _answer(204, {})


def _speaks(request: Request) -> bool:
    return request.headers.get("tus-resumable") == VERSION


def _other_version() -> Response:
    return _answer(412, {"Tus-Version": VERSION, "Connection": "close"})


def _answer(status: int, headers: dict[str, str]) -> Response:
    return Response(status_code=status, headers={"Tus-Resumable": VERSION, "Cache-Control": "no-store", **headers})


def _place(upload: Upload) -> dict[str, str]:
    file = {"Content-Location": f"/files/{upload.id}"} if upload.finished else {}
    return {"Upload-Offset": str(upload.offset), **file}


def _expiry(upload: Upload) -> dict[str, str]:
    return {"Upload-Expires": format_datetime(datetime.fromtimestamp(upload.expires_at, UTC), usegmt=True)}


def _number(request: Request, header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdecimal()) or len(text) > _LONGEST:
        raise Malformed(f"{header} must be a number of bytes")
    return int(text)


def _length(request: Request) -> int | None:
    return _number(request, "content-length") if "content-length" in request.headers else None


def _checksum(request: Request) -> Checksum | None:
    given = request.headers.get("upload-checksum")
    try:
        return None if given is None else Checksum(given)
    except BadOptions as error:
        raise Malformed(error.text) from None


def _metadata(text: str) -> dict[str, str]:
    """The keys and values of an `Upload-Metadata`: values are in base64, and may be missing."""
    found = {}
    for pair in text.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode("utf-8", "replace")
        except binascii.Error:
            raise Malformed("Upload-Metadata must be keys, each with a space and base64 behind it") from None
    return found
