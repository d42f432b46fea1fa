"""Every error as `application/problem+json` (RFC 9457), with a code for programs.

It decides nothing: exceptions of the public tree are turned into statuses here,
so that routes need not catch them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from muskox import (
    DataError,
    DeclarationError,
    FlowNotFound,
    JobNotFound,
    MuskoxError,
    NameTaken,
    OptionError,
    ScheduleNotFound,
    StoreError,
    WrongState,
)
from muskox.web.policy import HEADERS

__all__ = ["Explain", "Problem", "described", "install", "problem_response", "store_away"]

_TITLES = {
    400: "Bad request",
    401: "Not signed in",
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
    429: "Too many tries",
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
    "example": {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "code": "job_unknown",
        "detail": "queue 'email' has no job '017'; it was never added, or cleared after its time",
        "errors": [],
    },
}
log = logging.getLogger("muskox.web")


class Problem(Exception):
    """Raise it to answer with an error; `code` is for programs, `detail` for people."""

    def __init__(
        self, status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None, **headers: str
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors or []
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


Explain = Callable[[Any], Problem]
"""Turns an error into what is told of it."""


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
    headers = {**HEADERS, **problem.headers}
    return JSONResponse(content, problem.status, headers=headers, media_type="application/problem+json")


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problems that a route may answer with, for its `responses`."""
    content = {"application/problem+json": {"schema": _SCHEMA}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


def install(app: FastAPI, more: Mapping[type[Exception], Explain] | None = None) -> None:
    """Let an application answer all its errors as problems; `more` explains errors of its own."""
    for kind, explain in {**_EXPLAINED, **(more or {})}.items():
        app.add_exception_handler(kind, _answer(explain))


def _answer(explain: Explain) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        return problem_response(explain(error))

    return answer


def _malformed(error: RequestValidationError) -> Problem:
    found = [
        {
            "pointer": "/" + "/".join(str(part) for part in one["loc"] if part != "body"),
            "code": str(one["type"]),
            "message": str(one["msg"]),
        }
        for one in error.errors()
    ]
    return Problem(422, "invalid_request", "the request is not as it must be", found)


def _plain(error: HTTPException) -> Problem:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    problem = Problem(error.status_code, code, str(error.detail))
    problem.headers.update(error.headers or {})
    return problem


def store_away(error: StoreError) -> Problem:
    """Tell that the store gives no answer, and log why."""
    log.error("the store cannot do what was asked: %s", error)
    return Problem(503, "store_unavailable", "the store gives no answer or refuses; try again", Retry_After="2")


def _unforeseen(_error: Exception) -> Problem:
    return Problem(500, "internal_error", "something went wrong here; it has been logged")


def _as(status: int, code: str) -> Explain:
    return lambda error: Problem(status, code, str(error))


_EXPLAINED: dict[type[Exception], Explain] = {
    Problem: lambda problem: problem,
    RequestValidationError: _malformed,
    HTTPException: _plain,
    JobNotFound: _as(404, "job_unknown"),
    FlowNotFound: _as(404, "flow_unknown"),
    ScheduleNotFound: _as(404, "schedule_unknown"),
    WrongState: _as(409, "wrong_state"),
    NameTaken: _as(409, "name_taken"),
    OptionError: _as(422, "invalid_option"),
    DataError: _as(422, "invalid_data"),
    DeclarationError: _as(422, "invalid_option"),
    StoreError: store_away,
    MuskoxError: _as(422, "refused"),
    Exception: _unforeseen,
}
