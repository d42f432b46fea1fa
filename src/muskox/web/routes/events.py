"""Live: a stream of events with filters that can be taken up again, and one of figures once a second."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from muskox import events
from muskox.web.desk import Desk, Given
from muskox.web.gate import Standing, Viewer
from muskox.web.hub import Told
from muskox.web.problems import Problem, described
from muskox.web.shapes import EventShape

__all__ = ["router"]

router = APIRouter(tags=["live"], responses=described(401, 403, 422, 429, 503))

MOST_STREAMS = 1000
_SLOWEST = 30.0
"""A client that takes nothing for so many seconds is let go."""


@router.get(
    "/api/events",
    summary="Follow events",
    response_class=EventSourceResponse,
    responses={200: {"model": EventShape, "content": {"text/event-stream": {}}, "description": "a stream"}},
)
async def follow(
    request: Request,
    desk: Given,
    by: Viewer,
    queue: Annotated[list[str] | None, Query(description="of these queues only")] = None,
    kind: Annotated[list[str] | None, Query(description="of these kinds only")] = None,
    job: Annotated[str | None, Query(description="about this job only", max_length=255)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Give events as they happen, each as one message whose `id` is its offset.

    A client that comes again with `Last-Event-ID` is given what it missed. Where that is not known any more it
    gets `reset`, and where it was too slow `gap`: both mean that it should look at the figures anew.
    """
    kinds = frozenset(kind or ())
    unknown = kinds - events.KINDS.keys()
    if unknown:
        raise Problem(422, "invalid_option", f"there is no event {min(unknown)!r}; see the reference of events")
    queues = frozenset(queue or ())

    def wants(told: Told) -> bool:
        fits = (not queues or told.queue in queues) and (not kinds or told.kind in kinds)
        return fits and (job is None or told.job == job)

    _refuse_when_full(desk)
    stream = _stream(desk, wants, last_event_id, Standing(request, desk))
    return EventSourceResponse(stream, ping=15, send_timeout=_SLOWEST)


def _refuse_when_full(desk: Desk) -> None:
    if desk.hub.watching + desk.ticker.watching >= MOST_STREAMS:
        raise Problem(429, "busy", f"{MOST_STREAMS} streams are open already", Retry_After="30")


async def _stream(
    desk: Desk, wants: Callable[[Told], bool], last: str | None, standing: Standing
) -> AsyncGenerator[ServerSentEvent, None]:
    known = last is not None and last.isascii() and last.isdecimal() and len(last) <= 18
    offset = int(last) if known and last is not None else await desk.hub.latest()
    with desk.hub.watch(wants, offset) as watch:
        if known:
            for told in await desk.hub.missed(offset, watch):
                offset = told.offset
                yield _message(told)
        elif last is not None:
            yield _message(Told("reset", offset, text="the Last-Event-ID is none of ours"))
        yield ServerSentEvent(comment="following")
        async for told in watch.stream():
            # What was read for this client may come a second time from the common reader.
            if await standing.over():
                return
            if told.offset > offset or told.kind in {"reset", "gap"}:
                yield _message(told)


def _message(told: Told) -> ServerSentEvent:
    return ServerSentEvent(data=msgspec.json.encode(told).decode(), event=told.kind, id=str(told.offset))


@router.get(
    "/api/live",
    summary="Follow the figures",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "a stream of overviews"}},
)
async def live(request: Request, desk: Given, by: Viewer) -> Response:
    """Give the overview once a second, as a message `overview`; `away` while the store gives no answer.

    However many watch, the store is asked once.
    """
    _refuse_when_full(desk)
    return EventSourceResponse(_ticks(desk, Standing(request, desk)), ping=15, send_timeout=_SLOWEST)


async def _ticks(desk: Desk, standing: Standing) -> AsyncGenerator[ServerSentEvent, None]:
    with desk.ticker.watch() as ticks:
        async for kind, text in ticks:
            if await standing.over():
                return
            yield ServerSentEvent(data=text, event=kind)
