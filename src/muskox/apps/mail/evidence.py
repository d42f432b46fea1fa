"""Takes evidence about a message from elsewhere: reports, webhooks, complaints.

What was told before counts once. What comes too early waits for its time; what
can not be true any more is noted in the history and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from muskox.apps.mail import store, tables
from muskox.apps.mail.states import MOVES, Cause, MessageState, Reason
from muskox.apps.mail.store import Message

__all__ = ["Evidence", "Taken", "apply_waiting", "known_already", "store_unmatched", "take"]

_MOVING = {
    "sent": MessageState.SENT,
    "delivered": MessageState.DELIVERED,
    "bounced": MessageState.BOUNCED,
    "complained": MessageState.COMPLAINED,
}
_EARLY = frozenset({MessageState.QUEUED, MessageState.SENDING, MessageState.DEFERRED})
_TOLD_ONLY = frozenset({"delayed", "relayed", "expanded", "autoresponded", "opened", "clicked", "unsubscribed"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact about a message. `key` is what names the fact at its source, so that it counts once."""

    type: str
    source: Cause
    key: str
    at: datetime
    reason: Reason = Reason.NONE
    detail: Mapping[str, Any] = field(default_factory=dict)


class Taken:
    """What became of evidence: words for the answer and the log."""

    MOVED = "moved"
    NOTED = "noted"
    WAITS = "waits"
    REPEATED = "repeated"
    IGNORED = "ignored"
    UNMATCHED = "unmatched"


def take(connection: Connection, message: Message, found: Evidence, now: datetime) -> str:
    """Let evidence move a message, wait, or be noted; says which, in the words of `Taken`."""
    if known_already(connection, found):
        return Taken.REPEATED
    target = _MOVING.get(found.type)
    if target is None:
        store.note(
            connection,
            message,
            found.type if found.type in _TOLD_ONLY else "ignored",
            found.at,
            cause=found.source,
            dedupe_key=found.key,
            detail=_told(found),
        )
        return Taken.NOTED if found.type in _TOLD_ONLY else Taken.IGNORED
    if target in MOVES[message.state] and message.state not in _EARLY:
        _apply(connection, message, found, target, now)
        return Taken.MOVED
    if message.state in _EARLY:
        _keep(connection, message.id, found, now)
        return Taken.WAITS
    store.note(connection, message, "ignored", found.at, cause=found.source, dedupe_key=found.key, detail=_told(found))
    return Taken.IGNORED


def apply_waiting(connection: Connection, message: Message, now: datetime) -> Message:
    """Apply what came before the message could have it, oldest first, now that it has moved."""
    if message.state in _EARLY:
        return message
    table = tables.evidence
    rows = connection.execute(select(table).where(table.c.message_id == message.id).order_by(table.c.at)).all()
    for row in rows:
        connection.execute(delete(table).where(table.c.id == row.id))
        found = Evidence(
            row.type, Cause(row.source), row.dedupe_key, row.at, Reason(row.reason), json.loads(row.detail)
        )  # fmt: skip
        take(connection, message, found, now)
        message = store.get(connection, message.id) or message
    return message


def store_unmatched(connection: Connection, found: Evidence, now: datetime) -> str:
    """Keep a report about nobody we know, for somebody to look at; never guessed at."""
    if known_already(connection, found):
        return Taken.REPEATED
    _keep(connection, None, found, now)
    return Taken.UNMATCHED


def known_already(connection: Connection, found: Evidence) -> bool:
    """Whether this fact has been told before."""
    for table in (tables.events, tables.evidence):
        query = select(table.c.type).where(table.c.source == found.source, table.c.dedupe_key == found.key)
        if connection.execute(query).first() is not None:
            return True
    return False


def _apply(connection: Connection, message: Message, found: Evidence, target: MessageState, now: datetime) -> None:
    first: dict[str, Any] = {} if message.first_sent_at else {"first_sent_at": now}
    store.move(
        connection,
        message,
        target,
        found.at,
        reason=found.reason,
        cause=found.source,
        dedupe_key=found.key,
        detail=found.detail,
        **first,
    )


def _keep(connection: Connection, message_id: str | None, found: Evidence, now: datetime) -> None:
    connection.execute(
        insert(tables.evidence).values(
            message_id=message_id,
            type=found.type,
            reason=found.reason,
            at=found.at,
            recorded_at=now,
            source=found.source,
            dedupe_key=found.key,
            detail=json.dumps(dict(found.detail), ensure_ascii=False, sort_keys=True),
        )
    )


def _told(found: Evidence) -> dict[str, Any]:
    return {**found.detail, "type": found.type}
