"""Looking at messages: their state, and their history, live if asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse

from muskox.apps.mail import store
from muskox.apps.mail.states import FINAL, MessageState
from muskox.apps.mail.store import Event, Message
from muskox.apps.notifier.routes.given import Given, written
from muskox.apps.notifier.services import Services
from muskox.web.problems import Problem, described

__all__ = ["router"]

_LOOK_AGAIN = 0.5
_PROGRESS = {MessageState.QUEUED: 0, MessageState.DEFERRED: 25, MessageState.SENDING: 50, MessageState.UNKNOWN: 75}
_MOST = 200

router = APIRouter(tags=["messages"])


@router.get("/messages/{id}", summary="Where a message is in its life", responses=described(404))
def show_message(id: str, services: Given) -> dict[str, Any]:
    """Give the state of a message, why it is in it, and what the server answered."""
    message = _find(services, id)
    mail = services.inbox.find_message(id) if services.inbox else None
    return {
        "id": message.id,
        "kind": message.kind,
        "state": message.state,
        "reason": message.reason,
        "detail": message.reason_detail,
        "to": message.to_address,
        "subject": message.subject,
        "attempts": message.attempts,
        "max_attempts": message.max_attempts,
        "next_attempt_at": written(message.next_attempt_at),
        "expires_at": written(message.expires_at),
        "smtp": {
            "code": message.smtp_code,
            "enhanced": message.enhanced_code,
            "response": message.mta_response,
        },
        "progress": _PROGRESS.get(message.state, 100),
        "created_at": written(message.created_at),
        "terminal_at": written(message.terminal_at),
        "links": {
            "events": f"/messages/{id}/events",
            "inbox": f"/dev/inbox/{mail.id}" if mail else None,
        },
    }


@router.get(
    "/messages/{id}/events", summary="What happened to a message; live as text/event-stream", responses=described(404)
)
async def show_events(
    id: str,
    request: Request,
    services: Given,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Give the events after a number, as JSON, or as a stream that ends when the message has reached its end."""
    message = await asyncio.to_thread(_find, services, id)
    if "text/event-stream" not in request.headers.get("accept", ""):
        events = await asyncio.to_thread(_events, services, id, after)
        return JSONResponse({"data": [_event(event) for event in events], "next": events[-1].seq if events else after})
    if last_event_id is not None and last_event_id.isdecimal():
        after = int(last_event_id)
    if message.state in FINAL and message.last_seq <= after:
        return Response(status_code=204)  # tells a browser that reconnects to stop
    return EventSourceResponse(_follow(services, id, after), ping=15)


async def _follow(services: Services, id: str, after: int) -> AsyncIterator[dict[str, str]]:
    """Yield events as they are written, until nothing more is to come."""
    with services.bell.listen(id) as ear:
        while not services.bell.silent:
            message = await asyncio.to_thread(_find, services, id)
            for event in await asyncio.to_thread(_events, services, id, after):
                after = event.seq
                yield {"id": str(event.seq), "data": json.dumps(_event(event))}
            if message.state in FINAL and after >= message.last_seq:
                yield {"event": "end", "data": json.dumps({"state": message.state})}
                return
            # The bell is a hint; a worker in another process cannot ring it.
            await ear.wait(_LOOK_AGAIN)


def _find(services: Services, id: str) -> Message:
    with services.engine.connect().execution_options(reading=True) as connection:
        message = store.get(connection, id)
    if message is None:
        raise Problem(404, "message_unknown", "there is no such message")
    return message


def _events(services: Services, id: str, after: int) -> list[Event]:
    with services.engine.connect().execution_options(reading=True) as connection:
        return store.events_after(connection, id, after, _MOST)


def _event(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "type": event.type,
        "at": written(event.at),
        "source": event.source,
        "attempt": event.attempt,
        "phase": event.phase,
        "smtp_code": event.smtp_code,
        "enhanced_code": event.enhanced_code,
        "response": event.response,
        "detail": event.detail,
    }
