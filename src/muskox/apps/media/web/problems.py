"""Errors of the media application as `application/problem+json`: a code for programs, a sentence for people."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from muskox import WrongState
from muskox.apps.media.errors import BadOptions, Broken, DiskLow, MediaError, NoSuchFile, Reason, Refused, UploadRefused

__all__ = ["Malformed", "NotReady", "TooSlow", "described", "install"]

_TITLES = {
    400: "Bad request",
    404: "Not found",
    408: "Nothing came in time",
    409: "Conflict",
    410: "Gone",
    413: "Too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Not acceptable",
    423: "Locked",
    429: "Too many",
    460: "Checksum mismatch",
    503: "Unavailable",
    507: "Insufficient storage",
}
_STATUS = {
    Reason.EMPTY: 400,
    Reason.UNSUPPORTED_TYPE: 415,
    Reason.TOO_LARGE: 413,
    Reason.WRONG_OFFSET: 409,
    Reason.EXPIRED: 410,
    Reason.LOCKED: 423,
    Reason.TOO_MANY_UPLOADS: 429,
    Reason.CHECKSUM_MISMATCH: 460,
}


class Malformed(Exception):
    """The body of a request is not what its head says."""


class TooSlow(Exception):
    """The body of a request came to a standstill."""


class NotReady(Exception):
    """What was asked for is still being made; `progress` says how far it is."""

    def __init__(self, progress: int) -> None:
        super().__init__("it is still being made")
        self.progress = progress


def install(app: FastAPI) -> None:
    """Let an application answer the errors of these routes as problems."""
    for kind in (MediaError, Malformed, TooSlow, NotReady, WrongState):
        app.add_exception_handler(kind, _answer)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problems that a route may answer with, for its `responses`."""
    text = {"type": "string"}
    properties = dict.fromkeys(("type", "title", "code", "detail"), text) | {"status": {"type": "integer"}}
    schema = {"type": "object", "properties": properties}
    content = {"application/problem+json": {"schema": schema}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


async def _answer(request: Request, error: Exception) -> Response:
    status, code, detail = _told(error)
    errors = []
    if isinstance(error, BadOptions):
        errors.append({"pointer": error.pointer, "code": code, "message": detail})
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "code": code,
        "detail": detail,
        "errors": errors,
    }
    if isinstance(error, NotReady):
        content["progress"] = error.progress
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if "tus-resumable" in request.headers:
        headers["Tus-Resumable"] = "1.0.0"
    if status in {408, 413, 415}:
        headers["Connection"] = "close"  # the rest of the body is not read
    return JSONResponse(content, status, headers=headers, media_type="application/problem+json")


def _told(error: Exception) -> tuple[int, str, str]:
    match error:
        case NoSuchFile():
            return 404, "not_found", error.text
        case DiskLow():
            return 507, error.reason, error.text
        case Refused() | UploadRefused():
            return _STATUS.get(error.reason, 422), error.reason, error.text
        case Broken():
            full = error.reason is Reason.DISK_FULL
            return 507 if full else 503, error.reason, error.text
        case TooSlow():
            return 408, "slow", str(error)
        case NotReady():
            return 409, "not_ready", str(error)
        case WrongState():
            return 409, "finished", "the job is over"
        case _:
            return 400, "malformed", str(error)
