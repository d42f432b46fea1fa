"""Reads and moves messages: each move is one compare-and-set and one event, in one transaction.

The caller brings the connection and decides when it commits. Which moves are
legal is said in `states.py`; what follows from a reply is said elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from muskox.apps.mail import tables
from muskox.apps.mail.counters import follow
from muskox.apps.mail.errors import Overtaken
from muskox.apps.mail.figures import count_one
from muskox.apps.mail.replies import Phase, Reply
from muskox.apps.mail.states import FINAL, Cause, MessageState, Reason, check_move

__all__ = [
    "Attempt",
    "Event",
    "Message",
    "end_attempt",
    "enter_phase",
    "events_after",
    "find_by_key",
    "find_same",
    "get",
    "insert_message",
    "message_of",
    "move",
    "note",
    "open_attempt",
    "open_attempt_of",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One mail to one recipient, as it was when it was read."""

    id: str
    kind: str
    stream: str
    to_address: str
    address_key: str
    to_domain: str
    from_address: str
    envelope_from: str
    subject: str
    template: str
    template_hash: str
    context: str
    message_id_header: str
    queue: str
    priority: int
    max_attempts: int
    expires_at: datetime
    created_at: datetime
    job_id: str
    user_id: str | None = None
    campaign_id: str | None = None
    list_id: str | None = None
    bounce_token: str | None = None
    remote_mta: str | None = None
    attachments: str = "[]"
    to_display: str = ""
    from_display: str = ""
    headers: str = "[]"
    scope: str = ""
    idempotency_key: str | None = None
    state: MessageState = MessageState.QUEUED
    reason: Reason = Reason.NONE
    reason_detail: str = ""
    attempts: int = 0
    next_attempt_at: datetime | None = None
    date_header: datetime | None = None
    content_sha256: str | None = None
    size_bytes: int | None = None
    first_sent_at: datetime | None = None
    terminal_at: datetime | None = None
    transport: str | None = None
    smtp_code: int | None = None
    enhanced_code: str | None = None
    mta_response: str | None = None
    version: int = 1
    last_seq: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to hand a message over. `phase` is how far it had come when it was last written down."""

    message_id: str
    n: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Event:
    """One fact in the life of a message; `seq` counts from 1 per message."""

    seq: int
    type: str
    at: datetime
    source: str
    attempt: int | None
    phase: str | None
    smtp_code: int | None
    enhanced_code: str | None
    response: str | None
    detail: dict[str, Any]


def insert_message(connection: Connection, message: Message) -> bool:
    """Store a new message with its event `queued`; False when it is there already."""
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    try:
        with connection.begin_nested():
            connection.execute(insert(tables.messages), values)
    except IntegrityError:
        if find_same(connection, message) is not None:
            return False
        raise
    _append(connection, message, 1, "queued", at=message.created_at, cause=Cause.APP)
    count_one(connection, message.queue, message.state, message.created_at)
    return True


def get(connection: Connection, id: str) -> Message | None:
    """Give a message by its id."""
    row = connection.execute(select(tables.messages).where(tables.messages.c.id == id)).mappings().one_or_none()
    return None if row is None else message_of(row)


def find_same(connection: Connection, message: Message) -> Message | None:
    """Give the stored message that stands for the same mail: its key is the same, or its campaign and recipient."""
    if message.idempotency_key is not None:
        found = find_by_key(connection, message.scope, message.idempotency_key)
        if found is not None:
            return found
    if message.campaign_id is None:
        return None
    table = tables.messages.c
    same = select(tables.messages).where(
        table.campaign_id == message.campaign_id, table.address_key == message.address_key
    )
    row = connection.execute(same).mappings().one_or_none()
    return None if row is None else message_of(row)


def find_by_key(connection: Connection, scope: str, key: str) -> Message | None:
    """Give the message that was stored under an idempotency key."""
    table = tables.messages.c
    row = connection.execute(select(tables.messages).where(table.scope == scope, table.idempotency_key == key))
    found = row.mappings().one_or_none()
    return None if found is None else message_of(found)


def move(
    connection: Connection,
    message: Message,
    target: MessageState,
    at: datetime,
    *,
    reason: Reason = Reason.NONE,
    cause: Cause = Cause.APP,
    reply: Reply | None = None,
    attempt: int | None = None,
    event: str | None = None,
    detail: Mapping[str, Any] | None = None,
    dedupe_key: str | None = None,
    **changes: Any,
) -> Message:
    """Move a message and append the event that tells of it, named like the state unless `event` says otherwise.

    Raises `IllegalMove` when the table forbids it, `Overtaken` when the message has changed since it was read; nothing
    has been written then.
    """
    check_move(message.state, target, reason)
    values: dict[str, Any] = {
        **changes,
        "state": target,
        "reason": reason,
        "version": message.version + 1,
    }
    values.setdefault("next_attempt_at", None)
    values.setdefault("reason_detail", "")
    if target in FINAL and message.terminal_at is None:
        values["terminal_at"] = at
    if reply is not None:
        values |= {"smtp_code": reply.code, "enhanced_code": reply.enhanced, "mta_response": reply.text}
    table = tables.messages
    # Events that move nothing may have been appended since the message was read, so the row counts and not we.
    seq = connection.execute(
        update(table)
        .where(table.c.id == message.id, table.c.version == message.version)
        .values(values | {"last_seq": table.c.last_seq + 1})
        .returning(table.c.last_seq)
    ).scalar()
    if seq is None:
        raise Overtaken(f"message {message.id} was changed since version {message.version} was read")
    told = {**({"reason": str(reason)} if reason is not Reason.NONE else {}), **(detail or {})}
    _append(
        connection,
        message,
        seq,
        event or target,
        at=at,
        cause=cause,
        reply=reply,
        attempt=attempt,
        told=told,
        dedupe_key=dedupe_key,
    )
    count_one(connection, message.queue, target, at)
    if message.campaign_id is not None:
        follow(connection, message.campaign_id, message.state, target, reason, at)
    return replace(message, **values, last_seq=seq)


def note(
    connection: Connection,
    message: Message,
    type: str,
    at: datetime,
    *,
    cause: Cause,
    detail: Mapping[str, Any] | None = None,
    dedupe_key: str | None = None,
) -> None:
    """Append an event that moves nothing; an attempt that is open goes on undisturbed."""
    table = tables.messages
    seq = connection.execute(
        update(table).where(table.c.id == message.id).values(last_seq=table.c.last_seq + 1).returning(table.c.last_seq)
    ).scalar()
    if seq is not None:
        _append(connection, message, seq, type, at=at, cause=cause, told=detail, dedupe_key=dedupe_key)


def open_attempt(
    connection: Connection, message: Message, at: datetime, *, job_id: str, fence: int, worker: str = ""
) -> Attempt:
    """Write down that an attempt begins."""
    n = message.last_seq  # grows with every move, so no two attempts of a message share it
    values = {
        "message_id": message.id,
        "n": n,
        "job_id": job_id,
        "fence": fence,
        "worker": worker,
        "transport": message.transport,
        "started_at": at,
        "phase": Phase.CONNECT,
    }
    connection.execute(insert(tables.attempts), values)
    return Attempt(message.id, n, Phase.CONNECT)


def open_attempt_of(connection: Connection, message: Message) -> Attempt | None:
    """Give the attempt that has begun and not ended, if there is one."""
    table = tables.attempts
    row = connection.execute(
        select(table).where(table.c.message_id == message.id, table.c.ended_at.is_(None)).order_by(table.c.n.desc())
    ).first()
    return None if row is None else Attempt(row.message_id, row.n, Phase(row.phase))


def enter_phase(connection: Connection, message: Message, attempt: Attempt, phase: Phase) -> None:
    """Write down how far an attempt has come; raises `Overtaken` unless the message is still this attempt's."""
    table, rows = tables.messages.c, tables.attempts
    mine = exists().where(table.id == message.id, table.version == message.version, table.state == MessageState.SENDING)
    changed = connection.execute(
        update(rows)
        .where(rows.c.message_id == message.id, rows.c.n == attempt.n, rows.c.ended_at.is_(None), mine)
        .values(phase=phase)
    )
    if changed.rowcount != 1:
        raise Overtaken(f"message {message.id} was taken over by another run")


def end_attempt(
    connection: Connection, attempt: Attempt, phase: Phase, outcome: str, at: datetime, line: str | None = None
) -> None:
    """Write down how an attempt ended; `line` names the connection to the server, if there was one."""
    table = tables.attempts
    connection.execute(
        update(table)
        .where(table.c.message_id == attempt.message_id, table.c.n == attempt.n)
        .values(phase=phase, outcome=outcome, ended_at=at, connection_id=line)
    )


def events_after(connection: Connection, id: str, after: int, limit: int = 200) -> list[Event]:
    """Give the events of a message with numbers above `after`, in order."""
    table = tables.events
    rows = connection.execute(
        select(table).where(table.c.message_id == id, table.c.seq > after).order_by(table.c.seq).limit(limit)
    )
    return [
        Event(
            row.seq,
            row.type,
            row.at,
            row.source,
            row.attempt,
            row.phase,
            row.smtp_code,
            row.enhanced_code,
            row.response,
            json.loads(row.detail),
        )
        for row in rows
    ]


def _append(
    connection: Connection,
    message: Message,
    seq: int,
    type: str,
    *,
    at: datetime,
    cause: Cause,
    reply: Reply | None = None,
    attempt: int | None = None,
    told: Mapping[str, Any] | None = None,
    dedupe_key: str | None = None,
) -> None:
    values = {
        "message_id": message.id,
        "seq": seq,
        "type": type,
        "at": at,
        "recorded_at": at,
        "source": cause,
        "attempt": attempt,
        "phase": reply.phase if reply else None,
        "smtp_code": reply.code if reply else None,
        "enhanced_code": reply.enhanced if reply else None,
        "response": reply.text if reply else None,
        "dedupe_key": dedupe_key,
        "detail": json.dumps(dict(told or {}), ensure_ascii=False, sort_keys=True),
    }
    connection.execute(insert(tables.events), values)


def message_of(row: RowMapping) -> Message:
    """Make a message of its row."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    values["state"], values["reason"] = MessageState(values["state"]), Reason(values["reason"])
    return Message(**values)
