"""Stands before every request and behind every answer: hosts, origins, sizes, and headers for browsers.

It knows no routes. A route may set a header of its own; what it leaves open is
set here to the strictest that our pages can live with.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muskox.apps.notifier.bodies import BodyTooLarge, replayed, whole_body
from muskox.apps.notifier.policy import SECURITY_HEADERS
from muskox.apps.notifier.problems import Problem, problem_response

__all__ = ["LARGEST_REQUEST", "Guard"]

LARGEST_REQUEST = 1_048_576

_CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


class Guard:
    """ASGI middleware. `hosts` are the names under which we may be addressed, beside addresses and localhost.

    The bodies of requests to `streamed` paths are left to their routes, which read them bit by bit and know a limit.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], streamed: Collection[str] = ()) -> None:
        self._app = app
        self._streamed = frozenset(streamed)
        self._hosts = {host.lower() for host in hosts} | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await problem_response(problem)(scope, receive, _dressed(send))
            return
        bounded = scope["path"] not in self._streamed
        if bounded and scope["method"] in _CHANGING and "content-length" not in Headers(scope=scope):
            try:
                receive = replayed(await whole_body(receive, LARGEST_REQUEST), receive)
            except BodyTooLarge:
                await problem_response(_too_large())(scope, receive, _dressed(send))
                return
        await self._app(scope, receive, _dressed(send))

    def _problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            # A page of somebody else's whose name was pointed at this machine would read the inbox (DNS rebinding).
            return Problem(421, "unknown_host", "this service is not reached under that name; set PUBLIC_URL to it")
        if scope["method"] in _CHANGING and not _same_origin(headers, host):
            return Problem(403, "cross_origin", "another site may not ask for changes here")
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return Problem(404, "not_found", "nothing here has a NUL in its name")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or (int(length) > LARGEST_REQUEST and scope["path"] not in self._streamed):
            return _too_large()
        return None

    def _is_ours(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "") if host.isprintable() and "@" not in host else ""
        if name in self._hosts:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _same_origin(headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


def _dressed(send: Send) -> Send:
    """Add the headers that the answer does not have yet."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return dressed


def _too_large() -> Problem:
    return Problem(413, "too_large", f"a request may have at most {LARGEST_REQUEST} bytes")
