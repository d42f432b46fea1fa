"""The built-in inbox: pages for people, JSON for tests. It is there only while mail lands in it.

Mails are untrusted: their HTML comes from a path of its own with a policy that
allows nothing but styles, and is shown in a frame without rights.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from muskox.apps.mail.inbox import TOPIC, Inbox, InboxMail, Opened, open_mail
from muskox.apps.notifier.pages import page
from muskox.apps.notifier.routes.given import Given, written
from muskox.apps.notifier.routes.previews import framed
from muskox.web.problems import Problem, described

__all__ = ["router"]

_LONGEST_WAIT = 60.0
_LOOK_AGAIN = 0.5

router = APIRouter(prefix="/dev/inbox", tags=["inbox"])


def _inbox(services: Given) -> Inbox:
    if services.inbox is None:
        raise Problem(404, "no_inbox", "mail goes to the SMTP server; there is no inbox here")
    return services.inbox


Box = Annotated[Inbox, Depends(_inbox)]


def _opened(id: str, inbox: Box) -> tuple[InboxMail, bytes, Opened]:
    found = inbox.get(id)
    if found is None:
        raise Problem(404, "mail_unknown", "there is no such mail in the inbox")
    return (*found, open_mail(found[1]))


OpenedMail = Annotated[tuple[InboxMail, bytes, Opened], Depends(_opened)]


@router.get("", summary="The inbox as a page", response_class=HTMLResponse)
def show_inbox(inbox: Box, services: Given, to: str = "", subject: str = "") -> HTMLResponse:
    """List the latest mails; the page shows new ones as they land."""
    mails = inbox.find(to=to, subject=subject)
    return page("inbox.html", services, mails=mails, to=to, subject=subject)


@router.get("/messages", summary="The latest mails as JSON")
def list_mails(inbox: Box, to: str = "", subject: str = "", before: str = "") -> dict[str, Any]:
    """Give up to a hundred mails, latest first; `before` takes the id of the last one for the next page."""
    mails = inbox.find(to=to, subject=subject, before=before)
    return {"data": [_summary(mail) for mail in mails], "next": mails[-1].id if len(mails) == 100 else None}


@router.delete("/messages", summary="Empty the inbox")
def remove_mails(inbox: Box) -> dict[str, int]:
    """Throw all mails away; says how many."""
    return {"removed": inbox.remove()}


@router.get("/messages/{id}", summary="One mail, taken apart", responses=described(404))
def read_mail(opened: OpenedMail) -> dict[str, Any]:
    """Give text, HTML and headers of a mail."""
    mail, _, parts = opened
    headers = [{"name": name, "value": value} for name, value in parts.headers]
    return {**_summary(mail), "text": parts.text, "html": parts.html, "headers": headers}


@router.delete("/messages/{id}", status_code=204, summary="Throw one mail away", responses=described(404))
def remove_mail(id: str, inbox: Box) -> None:
    """Remove a mail from the inbox."""
    if not inbox.remove(id):
        raise Problem(404, "mail_unknown", "there is no such mail in the inbox")


@router.get(
    "/messages/{id}/raw",
    summary="One mail as it would have left",
    response_class=PlainTextResponse,
    responses=described(404),
)
def read_raw(opened: OpenedMail) -> Response:
    """Give the bytes of a mail, as text."""
    return PlainTextResponse(opened[1].decode("utf-8", "replace"))


@router.get(
    "/messages/{id}/html",
    summary="The HTML of one mail, without rights",
    response_class=HTMLResponse,
    responses=described(404),
)
def read_html(opened: OpenedMail, *, dark: bool = False) -> HTMLResponse:
    """Give the HTML of a mail under a policy that runs and loads nothing; its links open in new windows."""
    return framed(opened[2].html, dark=dark)


@router.get("/wait", summary="Wait for a mail to land", responses=described(408))
async def wait_for_mail(
    inbox: Box,
    services: Given,
    *,
    to: str = "",
    subject: str = "",
    timeout: Annotated[float, Query(ge=0, le=_LONGEST_WAIT)] = 10.0,
    after: str = "",
) -> Response:
    """Answer with the latest mail that fits as soon as there is one, or 408; `after` takes a mail's id."""
    world = services.ox.world
    end = world.monotonic() + timeout
    with services.bell.listen(TOPIC) as ear:
        while True:
            mails = await asyncio.to_thread(inbox.find, to=to, subject=subject, limit=1)
            if mails and mails[0].id > after:
                return JSONResponse(_summary(mails[0]))
            left = end - world.monotonic()
            if left <= 0 or services.bell.silent:
                raise Problem(408, "nothing_came", f"no such mail has come within {timeout:g} s")
            await ear.wait(min(left, _LOOK_AGAIN))


@router.get("/{id}", summary="One mail as a page", response_class=HTMLResponse, responses=described(404))
def show_mail(opened: OpenedMail, services: Given) -> HTMLResponse:
    """Show a mail: HTML in a frame, text, headers, and the bytes."""
    mail, raw, parts = opened
    return page("mail.html", services, mail=mail, parts=parts, raw=raw.decode("utf-8", "replace"))


def _summary(mail: InboxMail) -> dict[str, Any]:
    return {
        "id": mail.id,
        "message_id": mail.message_id,
        "received_at": written(mail.received_at),
        "from": mail.sender,
        "to": mail.recipient,
        "subject": mail.subject,
        "size_bytes": mail.size_bytes,
        "links": {
            "page": f"/dev/inbox/{mail.id}",
            "html": f"/dev/inbox/messages/{mail.id}/html",
            "raw": f"/dev/inbox/messages/{mail.id}/raw",
        },
    }
