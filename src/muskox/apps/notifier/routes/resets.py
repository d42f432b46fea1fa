"""Asking for a new password, and choosing it."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from muskox.apps.mail.addresses import parse_address
from muskox.apps.notifier.pages import page
from muskox.apps.notifier.resets import TokenRefused, TokenUnknown
from muskox.apps.notifier.routes.given import Given, address_of
from muskox.apps.notifier.users import Invalid
from muskox.web.problems import Problem, described

__all__ = ["router"]

_TEXT = "this link cannot be used; ask for a new one"

_UNUSABLE: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such link"},
    410: {"description": "Used or too old"},
}

router = APIRouter(tags=["password reset"])


class ResetRequest(BaseModel):
    """Who has forgotten a password."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: str = Field(examples=["ada@example.org"], max_length=1_000)


class NewPassword(BaseModel):
    """The token from the mail, and the new password twice."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(max_length=1_000)
    password: str = Field(max_length=1_000)
    password2: str = Field(max_length=1_000)


@router.post(
    "/auth/password-reset", status_code=202, summary="Ask for a mail with a reset link", responses=described(422, 429)
)
async def request_reset(asked: ResetRequest, request: Request, services: Given) -> dict[str, str]:
    """Answer the same for every address, known or not; a job finds out and writes."""
    address = parse_address(asked.email)
    wait = await asyncio.to_thread(services.too_often, "reset", address_of(request))
    if wait:
        raise Problem(429, "too_often", "too many were asked for from there; try again later", Retry_After=str(wait))
    await services.resets.request(address)
    return {}


@router.get(
    "/auth/reset",
    summary="The page to choose a new password on",
    response_class=HTMLResponse,
    responses=_UNUSABLE,
)
def show_reset(services: Given, token: str = Query("", max_length=1_000)) -> HTMLResponse:
    """Show the form; consumes nothing, so that link scanners do no harm."""
    try:
        services.resets.check(token)
    except TokenRefused as refused:
        status = 404 if isinstance(refused, TokenUnknown) else 410
        return page("reset.html", services, status=status, usable=False)
    return page("reset.html", services, usable=True)


@router.post("/auth/reset", status_code=204, summary="Choose a new password", responses=described(404, 410, 422))
async def finish_reset(request: NewPassword, services: Given) -> None:
    """Use the token up and change the password; a mail tells the owner."""
    if request.password != request.password2:
        raise Invalid("password2", "passwords_differ", "the two passwords are not the same")
    try:
        await services.with_passwords(services.resets.finish, request.token, request.password)
    except TokenRefused as refused:
        status = 404 if isinstance(refused, TokenUnknown) else 410
        raise Problem(status, refused.code, _TEXT) from None
