"""Judges each request: who asks, and whether that is enough for the route. Without a word of a route, it is shut.

A route says what it needs by the annotation of a parameter: `by: Viewer`,
`by: Operator`, `by: Admin`; `check_gates` refuses an application in which one
says nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute

from muskox.web.access import LOCAL, Principal, Role
from muskox.web.desk import Desk, Given
from muskox.web.guard import CHANGING, is_local
from muskox.web.problems import Problem
from muskox.web.sessions import COOKIE

__all__ = [
    "CSRF_HEADER",
    "OPEN",
    "Admin",
    "Anybody",
    "Operator",
    "Standing",
    "Viewer",
    "check_gates",
    "needed",
    "routes_of",
    "who_asks",
]

CSRF_HEADER = "Muskox-Request"
"""A browser that is signed in sends it with every change: a page of another site cannot."""

_LOOK_AGAIN = 60.0

OPEN = "open"
"""What a route needs that anybody may use."""


async def who_asks(request: Request, desk: Desk) -> Principal | None:
    """Who asks, by token, session, the host's word or nearness; None for nobody we know."""
    header = request.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer":
        found = desk.access.of_token(token.strip(), desk.ox.world.now())
        if found is not None or desk.access.authorize is None:
            return _capped(found, desk)
    if desk.access.authorize is not None:
        answer = desk.access.authorize(request)
        found = await answer if inspect.isawaitable(answer) else answer
        if found is not None:
            return _capped(_checked(request, found), desk)
    found = desk.sessions.find(request.cookies.get(COOKIE, ""))
    if found is not None:
        return _capped(_checked(request, found), desk)
    if not desk.access and is_local(request.scope):
        return _capped(LOCAL, desk)
    return None


class Standing:
    """Whether somebody who follows a stream may still do so: looked at again once a minute."""

    def __init__(self, request: Request, desk: Desk) -> None:
        self._request = request
        self._desk = desk
        self._seen = desk.ox.world.monotonic()

    async def over(self) -> bool:
        """Whether the session or token has ended since."""
        now = self._desk.ox.world.monotonic()
        if now - self._seen < _LOOK_AGAIN:
            return False
        self._seen = now
        return await who_asks(self._request, self._desk) is None


def _checked(request: Request, principal: Principal) -> Principal:
    """Refuse a change that a browser may have been talked into by another page."""
    if request.method in CHANGING and CSRF_HEADER not in request.headers:
        raise Problem(403, "csrf", f"a change by a browser that is signed in needs the header {CSRF_HEADER}")
    return principal


def _capped(principal: Principal | None, desk: Desk) -> Principal | None:
    if principal is None or not desk.read_only:
        return principal
    return msgspec.structs.replace(principal, role=Role.VIEW)


Gate = Callable[[Request, Desk], Awaitable[Principal]]


def _needs(role: Role) -> Gate:
    async def gate(request: Request, desk: Given) -> Principal:
        principal = await who_asks(request, desk)
        if principal is None:
            if not desk.access:
                raise Problem(
                    403, "local_only", "nobody has set up access to this dashboard, so it answers this machine alone"
                )
            raise Problem(401, "not_signed_in", "sign in, or send a bearer token", WWW_Authenticate="Bearer")
        if not principal.role.allows(role):
            why = "this dashboard is read-only" if desk.read_only else f"{principal.name} may only {principal.role}"
            raise Problem(403, "not_allowed", f"this needs the role {role}; {why}")
        return principal

    gate.needed = role  # type: ignore[attr-defined]
    return gate


async def _anybody() -> None:
    return None


_anybody.needed = OPEN  # type: ignore[attr-defined]

Viewer = Annotated[Principal, Depends(_needs(Role.VIEW))]
Operator = Annotated[Principal, Depends(_needs(Role.OPERATE))]
Admin = Annotated[Principal, Depends(_needs(Role.ADMIN))]
Anybody = Annotated[None, Depends(_anybody)]


def needed(route: APIRoute) -> str | None:
    """The role that a route asks for, `OPEN`, or None where it says nothing."""
    for dependency in route.dependant.dependencies:
        found = getattr(dependency.call, "needed", None)
        if found is not None:
            return str(found)
    return None


def check_gates(routers: Iterable[APIRouter]) -> None:
    """Raise `RuntimeError` when a route does not say whom it is for."""
    shut = [route.path for router in routers for route in routes_of(router) if needed(route) is None]
    if shut:
        raise RuntimeError(f"these routes say nothing of who may use them: {', '.join(shut)}")


def routes_of(router: APIRouter) -> list[APIRoute]:
    """The routes of a router, each with its path."""
    found = [route for route in router.routes if isinstance(route, APIRoute)]
    if len(found) != len(router.routes):
        raise RuntimeError("a router has routes whose gate cannot be seen; let it have plain ones only")
    return found
