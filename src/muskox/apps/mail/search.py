"""Finds messages for lists of them: by state, kind, recipient, campaign and age, latest first, in pages."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from muskox.apps.mail import tables
from muskox.apps.mail.store import Message, message_of

__all__ = ["find_messages"]


def find_messages(
    connection: Connection,
    *,
    state: str = "",
    kind: str = "",
    address_key: str = "",
    campaign: str = "",
    since: datetime | None = None,
    before: str = "",
    limit: int = 50,
) -> list[Message]:
    """Give messages; `before` is the id of the last one seen, since ids grow with time."""
    table = tables.messages.c
    query = select(tables.messages).order_by(table.id.desc()).limit(limit)
    for column, value in (
        (table.state, state),
        (table.kind, kind),
        (table.address_key, address_key),
        (table.campaign_id, campaign),
    ):
        if value:
            query = query.where(column == value)
    if since is not None:
        query = query.where(table.created_at >= since)
    if before:
        query = query.where(table.id < before)
    return [message_of(row) for row in connection.execute(query).mappings()]
