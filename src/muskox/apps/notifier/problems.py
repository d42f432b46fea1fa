"""Errors as the HTTP interface tells them: `application/problem+json`, one shape for all.

A problem never quotes what was sent, nor anything from inside the program.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from muskox import StoreError
from muskox.apps.mail.errors import AddressRefused, Refused
from muskox.apps.notifier.policy import SECURITY_HEADERS
from muskox.apps.notifier.users import Invalid

__all__ = ["Problem", "described", "install", "problem_response"]

_TITLES = {
    400: "Bad request",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Nothing came in time",
    409: "Conflict",
    410: "Gone",
    413: "Too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Not acceptable",
    500: "Internal error",
    503: "Unavailable",
}
_TEXT = {"type": "string"}
_FOUND = {"type": "object", "properties": {"pointer": _TEXT, "code": _TEXT, "message": _TEXT}}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "errors"],
    "properties": {
        **dict.fromkeys(("type", "title", "code", "detail"), _TEXT),
        "status": {"type": "integer"},
        "errors": {"type": "array", "items": _FOUND},
    },
}
log = logging.getLogger("muskox.notifier")


class Problem(Exception):
    """Raise it in a route to answer with an error; `code` is for programs, `detail` for people."""

    def __init__(
        self, status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None, **headers: str
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors or []
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def problem_response(problem: Problem) -> Response:
    """Write a problem down."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "errors": problem.errors,
    }
    headers = {**SECURITY_HEADERS, **problem.headers}
    return JSONResponse(content, problem.status, headers=headers, media_type="application/problem+json")


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problems that a route may answer with, for its `responses`."""
    content = {"application/problem+json": {"schema": _SCHEMA}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Let an application answer all its errors as problems."""
    for kind, explain in _EXPLAINED.items():
        app.add_exception_handler(kind, _answer(explain))


Explain = Callable[[Any], Problem]


def _answer(explain: Explain) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        return problem_response(explain(error))

    return answer


def _malformed(error: RequestValidationError) -> Problem:
    errors = [_error(found) for found in error.errors()]
    return Problem(422, "invalid_request", "the request is not as it must be", errors)


def _invalid(error: Invalid) -> Problem:
    found = {"pointer": f"/{error.field}", "code": error.code, "message": str(error)}
    return Problem(422, error.code, str(error), [found])


def _refused(error: Refused) -> Problem:
    field, code = ("email", "invalid_address") if isinstance(error, AddressRefused) else ("name", "invalid_text")
    return Problem(422, code, str(error), [{"pointer": f"/{field}", "code": code, "message": str(error)}])


def _plain(error: HTTPException) -> Problem:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return Problem(error.status_code, code, str(error.detail))


def _store_away(error: Exception) -> Problem:
    log.error("the store gives no answer: %s", error)
    return Problem(503, "store_unavailable", "the store gives no answer; try again", Retry_After="2")


def _unforeseen(_error: Exception) -> Problem:
    return Problem(500, "internal_error", "something went wrong here; it has been logged")


_EXPLAINED: dict[type[Exception], Explain] = {
    Problem: lambda problem: problem,
    RequestValidationError: _malformed,
    Invalid: _invalid,
    Refused: _refused,
    HTTPException: _plain,
    StoreError: _store_away,
    OperationalError: _store_away,
    Exception: _unforeseen,
}


def _error(found: dict[str, Any]) -> dict[str, str]:
    place = [str(part) for part in found["loc"] if part != "body"]
    return {"pointer": "/" + "/".join(place), "code": str(found["type"]), "message": str(found["msg"])}
