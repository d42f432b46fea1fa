"""Sending mail over HTTP: one or many, now or later, cancelled, sent again; and the list of what was sent."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from muskox import MuskoxError
from muskox.apps.mail import store
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.errors import AddressRefused, HeaderRefused, IllegalMove, Overtaken, Refused, RenderError
from muskox.apps.mail.kinds import KINDS, Stream
from muskox.apps.mail.search import find_messages
from muskox.apps.mail.sending import Accepted
from muskox.apps.mail.states import Cause, MessageState, Reason
from muskox.apps.mail.store import Message
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier.routes.by import Operator, Viewer
from muskox.apps.notifier.routes.cursors import cursor_at, read_cursor
from muskox.apps.notifier.routes.given import Given, written
from muskox.apps.notifier.services import Services
from muskox.web.problems import Problem, described

__all__ = ["router"]

_MOST = 500
_PAGE = 50
_AGAIN = frozenset({MessageState.FAILED, MessageState.BOUNCED, MessageState.UNKNOWN})

router = APIRouter(tags=["messages"])


class MailRequest(BaseModel):
    """A mail to one recipient. `delay` is seconds; give it or `not_before`, not both."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field(examples=["ada@example.org"], max_length=1_000)
    template: str = Field(examples=["welcome"], max_length=128)
    context: dict[str, Any] = Field(default_factory=dict, examples=[{"name": "Ada", "email": "ada@example.org"}])
    name: str = Field(default="", max_length=300)
    kind: str = Field(default="custom", max_length=64)
    priority: int | None = Field(default=None, ge=-1_000, le=1_000)
    delay: float | None = Field(default=None, ge=0, le=366 * 86_400)
    not_before: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    headers: dict[str, str] = Field(default_factory=dict, max_length=20)


class ManyMails(BaseModel):
    """Up to 500 mails; each stands for itself."""

    model_config = ConfigDict(extra="forbid")

    messages: list[MailRequest] = Field(min_length=1, max_length=_MOST)


class AgainRequest(BaseModel):
    """Whether a mail that was sent shall be sent once more."""

    model_config = ConfigDict(extra="forbid")

    force: bool = False


@router.post("/messages", status_code=202, summary="Send a mail", responses=described(401, 403, 404, 413, 422))
def send_message(
    request: MailRequest, services: Given, by: Operator, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """Store the message and its job, and answer before anything is sent."""
    accepted = _send(services, request, idempotency_key)
    return _told(accepted)


@router.post("/messages/batch", status_code=202, summary="Send many mails", responses=described(401, 403, 413, 422))
def send_messages(
    request: ManyMails, services: Given, by: Operator, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """Answer in order, each with an id or an error; one that is refused takes no other with it."""
    answers: list[dict[str, Any]] = []
    for number, mail in enumerate(request.messages):
        key = f"{idempotency_key}/{number}"[-255:] if idempotency_key else None
        try:
            answers.append(_told(_send(services, mail, key)))
        except Problem as problem:
            answers.append({"error": {"code": problem.code, "detail": problem.detail, "errors": problem.errors}})
        except Refused as refused:
            answers.append({"error": {"code": "refused", "detail": str(refused), "errors": []}})
    return {"data": answers}


@router.get("/messages", summary="Messages, latest first", responses=described(401, 403, 422))
def list_messages(
    services: Given,
    by: Viewer,
    *,
    state: Annotated[MessageState | Literal[""], Query()] = "",
    kind: str = "",
    to: str = "",
    campaign: str = "",
    since: AwareDatetime | None = None,
    cursor: str = "",
) -> dict[str, Any]:
    """Give fifty at a time; `next` is the cursor of the page after it."""
    before = read_cursor(cursor, 1)[0] if cursor else ""
    key = parse_address(to).key if to else ""
    with services.engine.connect().execution_options(reading=True) as connection:
        found = find_messages(
            connection,
            state=state,
            kind=kind,
            address_key=key,
            campaign=campaign,
            since=since,
            before=before,
            limit=_PAGE,
        )
    after = cursor_at(found[-1].id) if len(found) == _PAGE else None
    return {"data": [_summary(message) for message in found], "next": after}


@router.post("/messages/{id}/cancel", summary="Withdraw a mail that waits", responses=described(401, 403, 404, 409))
async def cancel_message(id: str, services: Given, by: Operator) -> dict[str, Any]:
    """Cancel what no attempt is open for; its job goes too."""
    message = await services.mail.in_thread(_cancel, services, id)
    services.bell.ring(id)
    try:
        await services.ox.queue(message.queue).cancel(message.job_id)
    except MuskoxError:  # gone already: what it would find is cancelled
        pass
    return {"id": id, "state": message.state}


@router.post(
    "/messages/{id}/retry", status_code=202, summary="Send a mail once more", responses=described(401, 403, 404, 409)
)
def send_again(id: str, request: AgainRequest, services: Given, by: Operator) -> dict[str, Any]:
    """Send the same as a new message, of which the old one tells; one that was sent needs `force`."""
    old = _find(services, id)
    allowed = old.state in _AGAIN or (request.force and old.state in {MessageState.SENT, MessageState.DELIVERED})
    if not allowed or old.stream == Stream.BULK:
        raise Problem(409, "not_retryable", f"a {old.stream} message that is {old.state} is not sent again like this")
    accepted = services.mail.send(
        old.template,
        to=old.to_address,
        display=old.to_display,
        context=json.loads(old.context),
        kind=old.kind if old.kind in KINDS else "custom",
        user_id=old.user_id,
    )
    return {**_told(accepted), "again": id}


def _send(services: Services, request: MailRequest, key: str | None) -> Accepted:
    if request.kind not in KINDS:
        raise _at("kind", "unknown_kind", f"there is no kind of mail {request.kind!r}: {', '.join(sorted(KINDS))}")
    if request.delay is not None and request.not_before is not None:
        raise _at("delay", "two_moments", "give delay or not_before, not both")
    now = moment_now(services.ox.world)
    not_before: datetime | None = request.not_before
    if request.delay is not None:
        not_before = now + timedelta(seconds=request.delay)
    expires_at = request.expires_at
    if expires_at is None and not_before is not None:
        expires_at = max(not_before, now) + timedelta(seconds=KINDS[request.kind].deadline)
    services.mail.templates.get(request.template)
    try:
        return services.mail.send(
            request.template,
            to=request.to,
            display=request.name,
            context=request.context,
            kind=request.kind,
            key=key,
            scope="api" if key else "",
            priority=request.priority,
            not_before=not_before,
            expires_at=expires_at,
            headers=tuple(request.headers.items()),
        )
    except AddressRefused as refused:
        raise _at("to", "invalid_address", str(refused)) from None
    except RenderError as refused:
        raise _at("context", "invalid_context", str(refused)) from None
    except HeaderRefused as refused:
        raise _at("headers", "invalid_text", str(refused)) from None


def _at(field: str, code: str, text: str) -> Problem:
    return Problem(422, code, text, [{"pointer": f"/{field}", "code": code, "message": text}])


def _cancel(services: Services, id: str) -> Message:
    with services.engine.begin() as connection:
        message = store.get(connection, id)
        if message is None:
            raise _unknown()
        try:
            return store.move(
                connection,
                message,
                MessageState.CANCELLED,
                moment_now(services.ox.world),
                reason=Reason.MANUAL,
                cause=Cause.OPERATOR,
            )
        except (IllegalMove, Overtaken):
            raise Problem(409, "not_cancellable", f"a message that is {message.state} cannot be withdrawn") from None


def _find(services: Services, id: str) -> Message:
    with services.engine.connect().execution_options(reading=True) as connection:
        message = store.get(connection, id)
    if message is None:
        raise _unknown()
    return message


def _unknown() -> Problem:
    return Problem(404, "message_unknown", "there is no such message")


def _told(accepted: Accepted) -> dict[str, Any]:
    links = {"self": f"/messages/{accepted.id}", "events": f"/messages/{accepted.id}/events"}
    return {"id": accepted.id, "state": accepted.state, "created": accepted.created, "links": links}


def _summary(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "kind": message.kind,
        "state": message.state,
        "reason": message.reason,
        "to": message.to_address,
        "subject": message.subject,
        "campaign": message.campaign_id,
        "attempts": message.attempts,
        "created_at": written(message.created_at),
        "terminal_at": written(message.terminal_at),
        "links": {"self": f"/messages/{message.id}"},
    }
