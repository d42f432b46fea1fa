"""Stands before every request and behind every answer: hosts, origins, sizes, and headers for browsers.

It knows no routes and no users; who may do what is judged in `gate.py`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muskox.web.bodies import BodyTooLarge, replayed, whole_body
from muskox.web.policy import HEADERS
from muskox.web.problems import Problem, problem_response

__all__ = ["CHANGING", "Guard", "is_among", "is_local", "is_loopback"]

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Guard:
    """ASGI middleware. `hosts` are the names under which we may be addressed, None for any.

    `largest` bounds the body of a request, in bytes. `addresses` lets us be addressed by any IP address, `hint` says
    how to be reached under a name, `headers` are what answers have unless they say otherwise. The bodies of requests
    to `streamed` paths are left to their routes, which read them bit by bit and know a limit.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str] | None,
        largest: int,
        *,
        addresses: bool = False,
        hint: str = "the dashboard is not reached under that name; see --allow-host",
        headers: Mapping[str, str] = HEADERS,
        streamed: Collection[str] = (),
    ) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._largest = largest
        self._addresses = addresses
        self._hint = hint
        self._headers = headers
        self._streamed = frozenset(streamed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await problem_response(problem)(scope, receive, _dressed(send, self._headers))
            return
        bounded = not is_among(scope["path"], self._streamed)
        if bounded and scope["method"] in CHANGING and "content-length" not in Headers(scope=scope):
            try:
                receive = replayed(await whole_body(receive, self._largest), receive)
            except BodyTooLarge:
                await problem_response(self._too_large())(scope, receive, _dressed(send, self._headers))
                return
        await self._app(scope, receive, _dressed(send, self._headers))

    def _problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            # A page of somebody else's whose name was pointed at this machine would speak to us (DNS rebinding).
            return Problem(421, "unknown_host", self._hint)
        if scope["method"] in CHANGING and not _same_origin(headers, host):
            return Problem(403, "cross_origin", "another site may not ask for changes here")
        if "origin" in headers and not _same_origin(headers, host):
            # A page elsewhere could not read the answer, but it could hold a stream open and learn from its timing.
            return Problem(403, "cross_origin", "another site may not read here")
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return Problem(404, "not_found", "nothing here has a NUL in its name")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or (int(length) > self._largest and not is_among(scope["path"], self._streamed)):
            return self._too_large()
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name_of(host)
        if self._hosts is None or is_loopback(name) or name in self._hosts:
            return True
        return self._addresses and _is_address(name)

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a request may have at most {self._largest} bytes")


def is_among(path: str, paths: Collection[str]) -> bool:
    """Whether a path is one of `paths`, or lies beneath one of them that ends with a stroke."""
    return path in paths or any(each.endswith("/") and path.startswith(each) for each in paths)


def is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine, was meant for it, and no proxy stands between."""
    headers = Headers(scope=scope)
    client = scope.get("client")
    near = client is None or is_loopback(client[0])
    return near and _is_loopback_host(headers.get("host", "")) and not _forwarded(headers)


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own and reached by nobody else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _forwarded(headers: Headers) -> bool:
    return any(name in headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))


def _is_loopback_host(host: str) -> bool:
    return is_loopback(_name_of(host))


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "") if host.isprintable() and "@" not in host else ""
    except ValueError:
        return ""


def _same_origin(headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


def _dressed(send: Send, added: Mapping[str, str]) -> Send:
    """Add the headers that the answer does not have yet."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in added.items():
                headers.setdefault(name, value)
        await send(message)

    return dressed
