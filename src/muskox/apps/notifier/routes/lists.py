"""Lists for everybody: ask to be on one, confirm, leave by one click, choose; and who is on them, for operators."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from muskox.apps.mail import subscriptions
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.subscriptions import Status
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier.lists import Choice
from muskox.apps.notifier.pages import page
from muskox.apps.notifier.routes.by import Operator, Viewer
from muskox.apps.notifier.routes.cursors import cursor_at, read_cursor
from muskox.apps.notifier.routes.given import Given, address_of, written
from muskox.apps.notifier.services import Services
from muskox.web.problems import Problem, described

__all__ = ["router"]

_PAGE = 100
_TOKEN = Query("", max_length=200)

router = APIRouter(tags=["lists"])


class SubscriptionRequest(BaseModel):
    """Who wants to be on a list."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(examples=["ada@example.org"], max_length=1_000)
    name: str = Field(default="", max_length=1_000)


class ListRequest(BaseModel):
    """A new list."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(examples=["product-news"], max_length=64)
    name: str = Field(examples=["Product news"], min_length=1, max_length=200)
    about: str = Field(default="", max_length=1_000)


@router.get("/lists", summary="The lists, and how many are on them", responses=described(401, 403))
def show_lists(services: Given, by: Viewer) -> dict[str, Any]:
    """Give each list with the figures of its people."""
    with services.engine.connect().execution_options(reading=True) as connection:
        found = subscriptions.find_lists(connection)
    return {
        "data": [
            {"id": one.id, "name": one.name, "about": one.about, **{status: n.get(status, 0) for status in Status}}
            for one, n in found
        ]
    }


@router.post("/lists", status_code=201, summary="Make a list", responses=described(401, 403, 409, 422))
def make_list(request: ListRequest, services: Given, by: Operator) -> dict[str, str]:
    """Make a list that people can ask to be on."""
    with services.engine.begin() as connection:
        now = moment_now(services.ox.world)
        if not subscriptions.add_list(connection, request.id, request.name, now, request.about):
            raise Problem(409, "list_known", "there is a list of that id already")
    return {"id": request.id, "name": request.name}


@router.get("/lists/confirm", summary="The page to confirm a subscription on", response_class=HTMLResponse)
def show_confirm(services: Given, token: str = _TOKEN) -> HTMLResponse:
    """Show a button; changes nothing, so that link scanners do no harm."""
    return page("confirm.html", services, token=token, done=None)


@router.post("/lists/confirm", summary="Confirm a subscription", response_class=HTMLResponse)
def confirm_subscription(services: Given, token: str = _TOKEN) -> HTMLResponse:
    """Put the person on the list whose link this is."""
    found = services.lists.confirm(token)
    return page("confirm.html", services, token=token, done=found, status=200 if found else 404)


@router.post(
    "/lists/{id}/subscriptions", status_code=202, summary="Ask to be on a list", responses=described(404, 422, 429)
)
async def ask_to_subscribe(id: str, asked: SubscriptionRequest, request: Request, services: Given) -> dict[str, str]:
    """Answer the same for every address; a mail with a link to confirm goes out where one is needed."""
    address = parse_address(asked.email)
    if not await asyncio.to_thread(services.lists.exists, id):
        raise Problem(404, "list_unknown", "there is no such list")
    wait = await asyncio.to_thread(services.too_often, "subscribe", address_of(request))
    if wait:
        raise Problem(429, "too_often", "too many were asked for from there; try again later", Retry_After=str(wait))
    await services.lists.request(id, address, asked.name.strip())
    return {"status": "pending"}


@router.get("/lists/{id}/subscriptions", summary="Who is on a list", responses=described(401, 403, 404, 422))
def show_members(
    id: str, services: Given, by: Viewer, *, status: Status | None = None, cursor: str = ""
) -> dict[str, Any]:
    """Give a hundred at a time, in the order of asking."""
    after = read_cursor(cursor, 1)[0] if cursor else ""
    if not services.lists.exists(id):
        raise Problem(404, "list_unknown", "there is no such list")
    with services.engine.connect().execution_options(reading=True) as connection:
        found = subscriptions.members(connection, id, status=status, after=after, limit=_PAGE)
    data = [
        {
            "id": one.id,
            "address": one.address,
            "name": one.name,
            "status": one.status,
            "confirmed_at": written(one.confirmed_at),
            "changed_at": written(one.changed_at),
        }
        for one in found
    ]
    return {"data": data, "next": cursor_at(found[-1].id) if len(found) == _PAGE else None}


@router.get("/u/{token}", summary="The page to leave a list on", response_class=HTMLResponse)
def show_leave(token: str, services: Given) -> HTMLResponse:
    """Show a button and the other lists; changes nothing."""
    return _leave_page(services, token, services.lists.choice(token))


@router.post("/u/{token}", summary="Leave a list by one click (RFC 8058)", response_class=HTMLResponse)
async def leave_list(token: str, request: Request, services: Given) -> Response:
    """Take the person off the list; no login, no cookie, no redirect, and again does no harm.

    The page's own form sends `keep` for each list to stay on.
    """
    form = await request.form()
    if form.get("List-Unsubscribe") == "One-Click":
        found = await services.mail.in_thread(services.lists.leave, token)
    elif "choose" in form:
        kept = [value for value in form.getlist("keep") if isinstance(value, str)]
        found = await services.mail.in_thread(services.lists.keep, token, kept)
    else:
        raise Problem(422, "no_wish", "the body must be List-Unsubscribe=One-Click")
    return _leave_page(services, token, found, done=True)


def _leave_page(services: Services, token: str, found: Choice | None, *, done: bool = False) -> HTMLResponse:
    if found is None:
        return page("leave.html", services, status=404, found=None)
    return page("leave.html", services, found=found, token=token, done=done)
