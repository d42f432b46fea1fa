"""Signing in and out, who asks, and the record of changes."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from muskox.web.access import Principal, Role, fits, hash_password
from muskox.web.desk import Desk, Given
from muskox.web.gate import Admin, Anybody, who_asks
from muskox.web.problems import Problem, described
from muskox.web.sessions import COOKIE, LASTS
from muskox.web.shapes import DeedShape, SessionShape

__all__ = ["router"]

router = APIRouter(tags=["access"], responses=described(403, 422))

_NOBODY = hash_password("nobody has this password", salt=b"0123456789abcdef")
"""Compared with where there is no such user, so that the time taken tells nothing."""
_AT_ONCE = asyncio.Semaphore(2)
"""Passwords compared at once: each takes 16 MB and a core for some time."""


class Credentials(BaseModel):
    """Name and password."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "ada", "password": "correct horse battery"}}
    )

    name: str = Field(max_length=64)
    password: str = Field(max_length=1024)


@router.get("/api/session", summary="Who asks")
async def session(request: Request, desk: Given, _: Anybody) -> SessionShape:
    """Say who asks and what they may do; nulls for somebody who is not signed in."""
    return _session(desk, await who_asks(request, desk))


@router.post("/api/login", summary="Sign in", responses=described(401, 429))
async def login(said: Credentials, request: Request, response: Response, desk: Given, _: Anybody) -> SessionShape:
    """Take a password and give a session as a cookie. Failing again and again makes the next try wait."""
    address = request.client.host if request.client else ""
    wait = desk.brake.wait(said.name, address)
    if wait > 0:
        raise Problem(
            429, "too_many_tries", f"too many tries; the next in {math.ceil(wait)} seconds",
            Retry_After=str(math.ceil(wait)),
        )  # fmt: skip
    user = desk.access.user(said.name)
    who = Principal(said.name, Role.VIEW if user is None else user.role, "password")
    desk.brake.failed(said.name, address)  # before the comparison, so that many tries at once are counted too
    with desk.deed(who, request, "sign in"):
        async with _AT_ONCE:
            right = await asyncio.to_thread(fits, said.password, _NOBODY if user is None else user.password)
        if user is None or not right:
            raise Problem(401, "wrong_credentials", "no user has this name and password")
    desk.brake.succeeded(said.name)
    response.set_cookie(
        COOKIE, desk.sessions.start(user), max_age=int(LASTS), httponly=True, samesite="strict",
        secure=_is_tls(request), path=request.scope.get("root_path", "") or "/",
    )  # fmt: skip
    return _session(desk, msgspec.structs.replace(who, role=Role.VIEW) if desk.read_only else who)


@router.post("/api/logout", summary="Sign out", status_code=204)
async def logout(request: Request, desk: Given, _: Anybody) -> Response:
    """Have the browser forget the session."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path=request.scope.get("root_path", "") or "/")
    return response


@router.get("/api/audit", summary="The record of changes", responses=described(401))
async def audit(desk: Given, by: Admin, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[DeedShape]:
    """Give who changed what, when, from where, and whether it worked, latest first."""
    deeds = await asyncio.to_thread(desk.trail.latest, limit)
    return [DeedShape(**msgspec.structs.asdict(deed)) for deed in deeds]


def _is_tls(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy; who lies here only loses the own cookie on plain HTTP."""
    return "https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "")}


def _session(desk: Desk, by: Principal | None) -> SessionShape:
    return SessionShape(
        name=by.name if by else None,
        role=by.role if by else None,
        means=by.means if by else None,
        sign_in=bool(desk.access.users),
        read_only=desk.read_only,
        title=desk.title,
    )
