"""Lets a client repeat a POST without doing the work twice: `Idempotency-Key`.

The first answer is kept for a day and given again for the same key and body. An
answer of 5xx is not kept, so that a repetition can succeed.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier import tables
from muskox.apps.notifier.services import Services
from muskox.web.bodies import replayed, whole_body
from muskox.web.guard import is_among
from muskox.web.problems import Problem, problem_response

__all__ = ["LARGEST_REQUEST", "Idempotent"]

LARGEST_REQUEST = 1_048_576
"""Bytes of a request; the guard before us lets none through that has more."""

KEPT = timedelta(days=1)
LOST = timedelta(minutes=1)
"""A request that is older and has no answer yet belongs to a process that is gone."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_HEADER = "idempotency-key"


class _State(StrEnum):
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request under a key, known by where it went and by a keyed hash of what it said."""

    scope: str
    key: str
    digest: str


class Idempotent:
    """ASGI middleware; it stands inside the guard. Requests to `streamed` paths are too large to be kept."""

    def __init__(self, app: ASGIApp, services: Services, streamed: Collection[str] = ()) -> None:
        self._app = app
        self._streamed = frozenset(streamed)
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get(_HEADER) if scope["type"] == "http" and scope["method"] == "POST" else None
        if key is None or is_among(scope["path"], self._streamed):
            await self._app(scope, receive, send)
            return
        if not _KEY.fullmatch(key):
            problem = Problem(
                422, "invalid_idempotency_key", "Idempotency-Key must be 1 to 255 visible ASCII characters"
            )
            await problem_response(problem)(scope, receive, send)
            return
        body = await whole_body(receive, LARGEST_REQUEST)
        asked = _Asked(f"POST {scope['path']}", key, self._digest(body))
        answer = await asyncio.to_thread(self._begin, asked)
        if answer is not None:
            await answer(scope, receive, send)
            return
        await self._run(asked, scope, replayed(body, receive), send)

    async def _run(self, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and keep what it says."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        try:
            await self._app(scope, receive, keep)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._forget, asked))
            raise
        await asyncio.shield(asyncio.to_thread(self._end, asked, messages))
        for message in messages:
            await send(message)

    def _digest(self, body: bytes) -> str:
        # Keyed, since a body may hold a password, and a plain hash of it could be tried out at leisure.
        return hmac.digest(self._services.keys.current, b"request" + body, "sha256").hex()

    def _begin(self, asked: _Asked) -> Response | None:
        """Write down that a request runs; gives the answer when it has one already, or may not run."""
        table = tables.idempotency
        now = moment_now(self._services.ox.world)
        with self._services.engine.begin() as connection:
            connection.execute(delete(table).where(table.c.created_at < now - KEPT))
            connection.execute(delete(table).where(table.c.state == _State.RUNNING, table.c.created_at < now - LOST))
            values = {
                "scope": asked.scope,
                "key": asked.key,
                "request_hash": asked.digest,
                "state": _State.RUNNING,
                "created_at": now,
            }
            try:
                with connection.begin_nested():
                    connection.execute(insert(table), values)
            except IntegrityError:
                return _known(connection, asked)
        return None

    def _end(self, asked: _Asked, messages: list[Message]) -> None:
        start = next(message for message in messages if message["type"] == "http.response.start")
        if start["status"] >= 500 or start["status"] == 429:
            self._forget(asked)
            return
        body = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
        content_type = MutableHeaders(raw=list(start.get("headers", []))).get("content-type", "")
        kept = json.dumps({"type": content_type, "body": base64.b64encode(body).decode()})
        table = tables.idempotency
        with self._services.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.scope == asked.scope, table.c.key == asked.key)
                .values(state=_State.DONE, status_code=start["status"], response=kept)
            )

    def _forget(self, asked: _Asked) -> None:
        table = tables.idempotency
        with self._services.engine.begin() as connection:
            connection.execute(delete(table).where(table.c.scope == asked.scope, table.c.key == asked.key))


def _known(connection: Connection, asked: _Asked) -> Response:
    """Answer a request whose key has been seen before."""
    table = tables.idempotency
    row = connection.execute(select(table).where(table.c.scope == asked.scope, table.c.key == asked.key)).one()
    if not hmac.compare_digest(row.request_hash, asked.digest):
        return problem_response(
            Problem(422, "idempotency_mismatch", "this Idempotency-Key was used for another request; take a new one")
        )
    if row.state == _State.RUNNING:
        return problem_response(
            Problem(409, "idempotency_running", "the first request with this key still runs", Retry_After="1")
        )
    kept = json.loads(row.response)
    headers = {"Idempotency-Replay": "true"} | ({"Content-Type": kept["type"]} if kept["type"] else {})
    return Response(base64.b64decode(kept["body"]), row.status_code, headers=headers)
